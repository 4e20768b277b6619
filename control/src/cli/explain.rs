//! `hawser explain`.

use clap::Args;
use hawser_api::DropReason;

use super::{OK, REFUSED, complain, print};
use crate::config::did_you_mean;

#[derive(Args)]
pub(super) struct Arguments {
    /// A drop reason as `hawser status` shows it; all of them when left out
    reason: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let Some(wanted) = &arguments.reason else {
        let width = DropReason::ALL
            .iter()
            .map(|r| r.name().len())
            .max()
            .unwrap_or(0);
        for reason in DropReason::ALL {
            print(&format!(
                "{:width$}  {}\n",
                reason.name(),
                reason.explanation()
            ));
        }
        return OK;
    };
    let wanted = wanted.to_lowercase().replace([' ', '-'], "_");
    if let Some(reason) = DropReason::ALL.iter().find(|r| r.name() == wanted) {
        print(&format!("{}: {}\n", reason.name(), reason.explanation()));
        return OK;
    }
    let names: Vec<&str> = DropReason::ALL.iter().map(|r| r.name()).collect();
    complain(format_args!(
        "hawser: there is no drop reason `{wanted}`: {}`hawser explain` lists them all",
        did_you_mean(&wanted, &names)
    ));
    REFUSED
}
