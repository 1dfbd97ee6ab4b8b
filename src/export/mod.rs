//! What is known of an engine, in the words of other programs. Pure: data in, data out.
//!
//! Knows no file, no cache and no process: what must be hashed or looked up comes from `build`, by way of `cli`.

mod provenance;
mod trtexec;

pub use provenance::{Facts, LOCAL_BUILDER, statement};
pub use trtexec::command as trtexec_command;
