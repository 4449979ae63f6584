fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("stockade-gateway: error: the only argument is the path of the configuration file");
        return std::process::ExitCode::from(2);
    };
    std::process::ExitCode::from(u8::try_from(stockade_gateway::run(path.as_ref())).unwrap_or(1))
}
