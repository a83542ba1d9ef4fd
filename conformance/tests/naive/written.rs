//! Reads the cases from the source: each must be in the list that tests are made from.

use std::collections::BTreeSet;
use std::path::Path;

/// Returns `module::case` for the public functions in the files of `dir` whose line ends with `signature`.
pub fn written(dir: &str, signature: &str) -> BTreeSet<String> {
    let mut cases = BTreeSet::new();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(dir)).unwrap() {
        let path = file.unwrap().path();
        let Some(module) = path.to_string_lossy().strip_suffix(".rs").map(str::to_owned) else { continue };
        let module = module.rsplit(['/', '\\']).next().unwrap().to_owned();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            if let Some(rest) = line.strip_prefix("pub fn ").filter(|rest| rest.ends_with(signature)) {
                cases.insert(format!("{module}::{}", rest.split(['<', '(']).next().unwrap()));
            }
        }
    }
    cases
}
