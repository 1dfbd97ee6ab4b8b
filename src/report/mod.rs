//! A project on one page: what is published, why, how fast, how accurate. Pure functions of a [`Report`], which `cli` puts
//! together from what is recorded: nothing here reads a file, a clock or another stage, so that equal records give equal
//! pages.
//!
//! Invariants: a page needs nothing beside itself (no network, no other file), and every text that a user could have
//! written (names of models, nodes, rules, files, samples) goes through `escape`.

mod drift;
mod escape;
mod figures;
mod history;
mod html;
mod map;
mod markdown;
mod model;
#[cfg(test)]
mod tests;

pub use figures::{count, duration, size};
pub use history::{Entry, History, Run, history};
pub use html::html;
pub use markdown::{MARKER, markdown};
pub use model::{Drift, DriftNode, Engine, Key, Message, Metric, Model, Node, Report, Rule, State, Target};
