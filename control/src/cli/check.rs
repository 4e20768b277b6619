//! `hawser check`.

use clap::Args;
use serde::Serialize;

use super::{ConfigFile, OK, REFUSED, complain, print, runtime};
use crate::{
    config::{self, Config, Diagnostics, Severity},
    netlink::Kernel,
    setup,
};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Do not compare with this host's interfaces and addresses
    #[arg(long)]
    offline: bool,
    /// Print the diagnostics as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    usable: bool,
    errors: usize,
    warnings: usize,
    diagnostics: &'a Diagnostics,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let (config, mut diagnostics) = config::load(&arguments.file.config);
    if let Some(config) = &config
        && !arguments.offline
    {
        diagnostics.0.extend(compare_with_host(config).0);
        diagnostics.sort();
    }
    let errors = diagnostics.count(Severity::Error);
    let warnings = diagnostics.count(Severity::Warning);
    if arguments.json {
        let report = Report {
            usable: errors == 0,
            errors,
            warnings,
            diagnostics: &diagnostics,
        };
        match serde_json::to_string_pretty(&report) {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => complain(format_args!("hawser: {error}")),
        }
    } else {
        print(&diagnostics.to_string());
        let file = arguments.file.config.display();
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let found = format!(
            "{errors} error{}, {warnings} warning{}",
            plural(errors),
            plural(warnings)
        );
        match &config {
            Some(config) if errors == 0 => print(&format!(
                "{file}: usable ({found}): {} tunnels in {} connections, {} routes, {} interfaces\n",
                config.tunnels.len(),
                config.connections.len(),
                config.routes.iter().map(|r| r.to.len()).sum::<usize>(),
                config.interfaces.len(),
            )),
            _ => print(&format!("{file}: refused ({found})\n")),
        }
        if let Some(config) = &config
            && errors == 0
        {
            print(&exchanges(config));
        }
    }
    if errors == 0 { OK } else { REFUSED }
}

/// What the key exchanges will be: the first few in full, they are rarely different.
fn exchanges(config: &Config) -> String {
    const SHOWN: usize = 8;
    let all: Vec<_> = config
        .tunnels
        .iter()
        .filter_map(|tunnel| Some((&tunnel.name, tunnel.ike()?)))
        .collect();
    let mut text: String = all
        .iter()
        .take(SHOWN)
        .map(|(name, ike)| format!("  {name}: {ike}\n"))
        .collect();
    if all.len() > SHOWN {
        text += &format!("  and {} more tunnels with IKEv2\n", all.len() - SHOWN);
    }
    text
}

fn compare_with_host(config: &Config) -> Diagnostics {
    let compared = runtime().map_err(|e| e.to_string()).and_then(|runtime| {
        runtime.block_on(async {
            let kernel = Kernel::open().await.map_err(|e| e.to_string())?;
            let mut diagnostics = config::against_host(config, &kernel.host_view());
            diagnostics
                .0
                .extend(match setup::plan(config, &kernel, 0).await {
                    Ok(planned) => planned.warnings.0,
                    Err(errors) => errors.0,
                });
            Ok(diagnostics)
        })
    });
    compared.unwrap_or_else(|error: String| {
        let mut diagnostics = Diagnostics::default();
        diagnostics.warning(
            None,
            format!("this host's interfaces could not be read: {error}"),
            "check again where netlink is allowed, or add --offline",
        );
        diagnostics
    })
}
