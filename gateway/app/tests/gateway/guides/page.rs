//! A guide's text, cut into what can be run and what cannot.
//!
//! | in the Markdown | is |
//! |---|---|
//! | a fence `sh` | a script whose every line must succeed |
//! | a fence `console` | commands after `$ `, each followed by its output, `…` standing for any text |
//! | a fence of another language whose first line is a comment with a path | that file |
//! | a fence after `<!-- runs: SCRIPT -->` | what stands between the marks of a framework's script |
//! | a fence after `<!-- not run: REASON -->` | for readers only |
//!
//! Anything else is a mistake in the guide, and a panic.

/// One fence of a guide.
#[derive(Debug)]
pub(super) enum Block {
    /// Lines for the shell.
    Script(String),
    /// A command and its output.
    Command(String, String),
    /// A file, with its name.
    File(String, String),
    /// A framework's script, and the lines that it has to have.
    Runs(String, String),
    /// Why it is not run.
    NotRun,
    /// Where the other guides begin.
    Mark,
}

const MARK: &str = "<!-- the other guides begin here -->";

/// Every block of a guide, in order.
pub(super) fn blocks(name: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    let mut remark = None;
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        let Some(language) = bare.strip_prefix("```") else {
            if bare == MARK {
                blocks.push(Block::Mark);
            }
            let comment = bare.strip_prefix("<!-- ");
            remark = comment.and_then(|comment| comment.strip_suffix(" -->"));
            continue;
        };
        let indent = line.len() - bare.len();
        let mut inside = String::new();
        for line in lines.by_ref() {
            if line.trim_start() == "```" {
                break;
            }
            inside.push_str(line.get(indent..).unwrap_or_default());
            inside.push('\n');
        }
        let reasoned = |remark: &str| remark.strip_prefix("not run: ").is_some();
        match (language, remark.take()) {
            (_, Some(remark)) if reasoned(remark) => blocks.push(Block::NotRun),
            (_, Some(remark)) if remark.starts_with("runs: ") => {
                blocks.push(Block::Runs(remark[6..].to_owned(), inside));
            }
            ("sh", _) => blocks.push(Block::Script(inside)),
            ("console", _) => blocks.extend(commands(&inside)),
            (_, _) => {
                let (first, _) = inside.split_once('\n').expect("a line");
                let path = first
                    .strip_prefix("# ")
                    .or_else(|| first.strip_prefix("// "))
                    .unwrap_or_else(|| {
                        panic!("{name}: {language} is neither run nor a file: {first}")
                    });
                blocks.push(Block::File(path.to_owned(), inside));
            }
        }
    }
    blocks
}

fn commands(inside: &str) -> Vec<Block> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut goes_on = false;
    for line in inside.lines() {
        let last = blocks.last_mut();
        match (line.strip_prefix("$ "), last) {
            (Some(command), _) => blocks.push((format!("{command}\n"), String::new())),
            (None, Some((command, _))) if goes_on => {
                command.push_str(line);
                command.push('\n');
            }
            (None, Some((_, output))) => {
                output.push_str(line);
                output.push('\n');
            }
            (None, None) => panic!("output before any command: {line}"),
        }
        goes_on = line.ends_with('\\') && (goes_on || line.starts_with("$ "));
    }
    let blocks = blocks.into_iter();
    blocks
        .map(|(command, output)| Block::Command(command, output))
        .collect()
}

/// Whether `text` is `pattern`, in which `…` stands for any text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let trimmed = |text: &str| {
        let lines = text.lines().map(str::trim_end);
        lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
    };
    let (pattern, text) = (trimmed(pattern), trimmed(text));
    let pieces: Vec<&str> = pattern.split('…').collect();
    let [first, .., last] = &pieces[..] else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    for piece in &pieces[1..pieces.len() - 1] {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn a_pattern_holds_for_what_it_shows_and_nothing_else() {
    for (pattern, text, holds) in [
        ("a\n", "a", true),
        ("a", "b", false),
        (
            "{…\"code\":\"x\"…}",
            "{\"a\":1,\"code\":\"x\",\"b\":2}",
            true,
        ),
        ("{…\"code\":\"x\"…}", "{\"code\":\"y\"}", false),
        ("a\n…\nd", "a\nb\nc\nd", true),
        ("a\n…\nd", "a\nb\nc\ne", false),
        ("ab…ba", "aba", false),
    ] {
        assert_eq!(matches(pattern, text), holds, "{pattern:?} {text:?}");
    }
}
