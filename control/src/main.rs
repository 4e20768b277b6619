//! The `hawser` program.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    hawser::cli::main()
}
