//! The configuration file: reading it, checking it, and saying what is wrong with it.
//!
//! All problems are collected and reported together, each with file, line and column, the
//! offending text, the reason and the remedy. The format is documented by `hawser help config`.

mod diagnostic;
mod entries;
pub mod ike;
pub mod keys;
mod model;
mod parse;
mod protected;
mod reader;
mod secrets;
mod units;
mod validate;
mod words;

pub use diagnostic::{Diagnostic, Diagnostics, Location, Severity, Source};
pub use model::{
    Config, Dataplane, Gateway, IkeGlobal, Interface, Keys, MAIN_TABLE, ManualKey, ManualSas,
    Route, StaticNeighbour, Tunnel, Via, Vlan,
};
pub use parse::{load, parse, run_dir_of};
pub use reader::At;
pub use units::{Bandwidth, Mac, SpiText};
pub use validate::{HostView, against_host};
pub use words::did_you_mean;
