//! `enginewright schema`

use super::super::exit;
use super::super::output;
use super::super::schema::{self, Document};

pub(super) fn run(of: Document) -> u8 {
    output::stdout(&schema::text(of));
    exit::DONE
}
