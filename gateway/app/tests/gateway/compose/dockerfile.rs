//! `gateway/Dockerfile`, read: what it copies is there, what it builds is locked, what it makes is no
//! root's. What its images hold and how they run is tested with the compose file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::repository;

/// Instructions without comments, continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository().join("gateway/Dockerfile")).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let words = joined.lines().filter_map(|line| line.split_once(' '));
    words
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

/// What the build's context holds: what `.dockerignore` lets in again after leaving all out.
fn context() -> Vec<String> {
    let text = fs::read_to_string(repository().join(".dockerignore")).unwrap();
    let rules: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules[0], "*", "nothing is let in that is not named");
    let named = rules.iter().filter_map(|rule| rule.strip_prefix('!'));
    named.map(str::to_owned).collect()
}

#[test]
fn the_dockerfile_copies_what_is_there_and_leaves_secrets_and_root_out() {
    let (mut copied, mut users, mut stages) = (BTreeSet::new(), 0, Vec::new());
    for (word, rest) in instructions() {
        match word.as_str() {
            "FROM" => stages.push(rest),
            "COPY" if !rest.starts_with("--from=") => {
                let (sources, _) = rest.rsplit_once(' ').unwrap();
                copied.extend(sources.split(' ').map(str::to_owned));
            }
            "USER" => {
                assert_eq!(
                    rest, "65532:65532",
                    "a number, so that orchestrators can tell"
                );
                users += 1;
            }
            "RUN" => {
                for command in rest
                    .split("&&")
                    .filter(|command| command.contains("cargo "))
                {
                    assert!(command.contains("--locked"), "{command}");
                }
            }
            "ADD" | "ARG" => panic!("{word} {rest}"),
            _ => {}
        }
    }
    assert_eq!(users, 3, "gateway, mock and setup");
    let last = stages.last().unwrap();
    assert_eq!(
        last, "scratch AS gateway",
        "a build without --target makes it"
    );
    for stage in &stages {
        let (base, _) = stage.split_once(" AS ").unwrap();
        let is_stage = stages
            .iter()
            .any(|other| other.ends_with(&format!(" AS {base}")));
        let pinned = base
            .split_once(':')
            .is_some_and(|(_, tag)| tag.contains('.'));
        assert!(
            is_stage || pinned || base == "scratch",
            "{base} is not pinned"
        );
    }
    let context = context();
    for source in &copied {
        assert!(repository().join(source).exists(), "{source}");
        let let_in = context.iter().any(|root| source.starts_with(root.as_str()));
        assert!(source == "." || let_in, "{source} is not in the context");
    }
    let workspace = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let workspace: toml::Table = toml::from_str(&workspace).unwrap();
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        let manifest = format!("{}/Cargo.toml", member.as_str().unwrap());
        assert!(
            copied.contains(&manifest),
            "{manifest} is not copied before the sources"
        );
    }
}

#[test]
fn the_layer_of_dependencies_is_a_workspace_that_cargo_can_read() {
    let hollow = tempfile::tempdir().unwrap();
    for (word, rest) in instructions() {
        if word != "COPY" || rest.starts_with("--from=") || rest == ". ." {
            continue;
        }
        let (sources, target) = rest.rsplit_once(' ').unwrap();
        if !target.ends_with('/') || target.starts_with('/') {
            continue;
        }
        fs::create_dir_all(hollow.path().join(target)).unwrap();
        for source in sources.split(' ') {
            let name = Path::new(source).file_name().unwrap();
            let copy = hollow.path().join(target).join(name);
            fs::copy(repository().join(source), copy).unwrap();
        }
    }
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(hollow.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
    };
    run("sh", &["gateway/docker/hollow.sh"]);
    run(
        env!("CARGO"),
        &[
            "metadata",
            "--locked",
            "--offline",
            "--no-deps",
            "--format-version=1",
        ],
    );
}
