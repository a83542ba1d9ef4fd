use std::path::{Path, PathBuf};

use super::*;

fn docs(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file)
}

/// Compares a file of the documentation with what the tables make of it, or with STRANDLINE_UPDATE_DOCS=1
/// writes it.
fn compare(file: &str, wanted: &str) {
    let path = docs(file);
    if std::env::var_os("STRANDLINE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    let first = found.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    assert!(
        found == wanted,
        "docs/{file} is out of date from line {:?}: run this test with STRANDLINE_UPDATE_DOCS=1",
        first.map(|line| line + 1)
    );
}

#[test]
fn the_documentation_has_every_key() {
    let text = std::fs::read_to_string(docs("jobs.md")).unwrap();
    let mark = "<!-- What follows is generated: change the tables in cli/src/jobfile/keys. -->\n\n";
    let (by_hand, _) = text.split_once(mark).unwrap();
    compare("jobs.md", &format!("{by_hand}{mark}{}", markdown()));
}

#[test]
fn the_schema_for_editors_has_every_key() {
    compare("job.schema.json", &format!("{:#}\n", schema()));
}

/// Every link within the documentation of job files leads to a heading.
#[test]
fn links_lead_somewhere() {
    let text = std::fs::read_to_string(docs("jobs.md")).unwrap();
    let anchor = |heading: &str| -> String {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
    };
    let headings: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect();
    let links: Vec<_> = text.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 20);
    for link in links {
        assert!(headings.iter().any(|heading| heading == link), "{link} is none of {headings:?}");
    }
    for file in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let file = file.split('#').next().unwrap();
        assert!(file.is_empty() || docs(file).exists(), "{file}");
    }
}
