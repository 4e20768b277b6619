//! `hawser help`: clap's help, and the configuration file's.

use clap::{Args, CommandFactory};

use super::{OK, REFUSED, complain, print};

#[derive(Args)]
pub(super) struct Arguments {
    /// A command, or `config`
    topic: Option<String>,
}

/// The configuration file explained by an example that is itself checked by a test.
const CONFIG: &str = include_str!("../../example/hawser.toml");

pub(super) fn run<C: CommandFactory>(arguments: &Arguments) -> u8 {
    let mut command = C::command();
    match arguments.topic.as_deref() {
        None => print(&format!("{}\n", command.render_long_help())),
        Some("config") => print(CONFIG),
        Some(topic) => match command.find_subcommand_mut(topic) {
            Some(found) => {
                // A subcommand does not know the program's name by itself.
                let named = found.clone().bin_name(format!("hawser {topic}"));
                print(&format!("{}\n", named.clone().render_long_help()));
            }
            None => {
                complain(format_args!(
                    "hawser: there is no command `{topic}`; `hawser help` lists them"
                ));
                return REFUSED;
            }
        },
    }
    OK
}
