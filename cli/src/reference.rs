//! The reference of job files, made of the tables that parsing uses: as Markdown for docs/jobs.md, and as JSON
//! Schema for editors.

mod editor;
mod markdown;

pub(crate) use editor::schema;
pub(crate) use markdown::markdown;

use crate::jobfile::keys::{self, Section};

/// The sections of a job file with their headings, in the order of the documentation.
fn sections() -> [(&'static str, &'static Section); 8] {
    [
        ("[source]", &keys::SOURCE),
        ("[[source.columns]]", &keys::COLUMN),
        ("[[source.columns]] of JSON", &keys::JSON_COLUMN),
        ("[[step]]", &keys::STEP),
        ("[sink]", &keys::SINK),
        ("[checkpoint]", &keys::CHECKPOINT),
        ("[restart]", &keys::RESTART),
        ("[state]", &keys::STATE),
    ]
}

/// The heading of a section that is the value of a key.
fn heading(section: &Section) -> &'static str {
    sections().into_iter().find(|(_, known)| std::ptr::eq(*known, section)).map_or("", |(heading, _)| heading)
}

#[cfg(test)]
mod tests;
