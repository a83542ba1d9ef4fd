//! Names that people write, and the things that they mean.

use strandline_state_api::{Error, ErrorKind};

/// At most so many names are in an error.
const SHOWN: usize = 8;

/// Returns the error for a name that nothing has, with the nearest names first.
pub(crate) fn unknown(what: &str, wanted: &str, known: impl IntoIterator<Item = String>) -> Error {
    let mut known: Vec<String> = known.into_iter().collect();
    known.dedup();
    if known.is_empty() {
        return Error::new(ErrorKind::NotFound, format!("there is no {what} {wanted:?}, and no other"));
    }
    let near = |name: &str| {
        let last = name.rsplit('/').next().unwrap_or(name);
        strsim::jaro_winkler(name, wanted).max(strsim::jaro_winkler(last, wanted))
    };
    known.sort_by(|a, b| near(b).total_cmp(&near(a)).then_with(|| a.cmp(b)));
    let best = near(&known[0]);
    let message = if best > 0.8 {
        format!("there is no {what} {wanted:?}; did you mean {:?}? There are {}", known[0], list(&known))
    } else {
        format!("there is no {what} {wanted:?}; there are {}", list(&known))
    };
    Error::new(ErrorKind::NotFound, message)
}

/// Returns the error for a name that several things have.
pub(crate) fn ambiguous(what: &str, wanted: &str, candidates: &[String]) -> Error {
    let message = format!("several {what}s are called {wanted:?}: choose one of {}", list(candidates));
    Error::invalid(message)
}

fn list(names: &[String]) -> String {
    let mut shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        shown.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    shown
}
