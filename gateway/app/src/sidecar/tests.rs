use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    sidecar: Sidecar,
}

struct NoVars;

impl Vars for NoVars {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }
}

fn wanted(line: &[&str]) -> Result<Wanted, Nonsense> {
    let line = [&["sidecar"], line].concat();
    let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
    line.sidecar.wanted(&NoVars)
}

fn config(line: &[&str]) -> Config {
    match wanted(line) {
        Ok(Wanted::Serve(config)) => *config,
        other => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn a_gateway_is_all_that_has_to_be_said() {
    let config = config(&["--gateway", "https://tollgate.example:8443"]);
    assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert!(!config.any_host);
    let Source::SubjectToken { file, task: None } = config.source else {
        panic!("{:?}", config.source);
    };
    assert_eq!(file, PathBuf::from(PROJECTED_TOKEN));
}

#[test]
fn a_listener_beyond_loopback_takes_a_word_that_says_so() {
    let gateway = ["--gateway", "https://tollgate.example"];
    for listen in ["0.0.0.0:8080", "10.0.0.7:8080", "[::]:8080"] {
        let line = [&gateway[..], &["--listen", listen]].concat();
        let wrong = wanted(&line).expect_err(listen);
        assert!(wrong.contains("--insecure-beyond-loopback"), "{wrong}");
        let line = [&line[..], &["--insecure-beyond-loopback"]].concat();
        assert!(config(&line).any_host);
    }
    let line = [&gateway[..], &["--listen", "[::1]:8080"]].concat();
    assert!(!config(&line).any_host);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let https = "--gateway=https://tollgate.example";
    for line in [
        &[][..],
        &["--gateway=tollgate.example"],
        &["--gateway=http://tollgate.example", "--ca=ca.crt"],
        &[https, "--certificate=tls.crt"],
        &[https, "--key=tls.key"],
        &[https, "--token-file=a", "--subject-token-file=b"],
        &[https, "--token-file=a", "--task=t"],
        &[https, "--task=no task"],
    ] {
        assert!(wanted(line).is_err(), "{line:?}");
    }
}
