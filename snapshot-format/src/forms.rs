//! The states of several parts as one table, with every form in which a part stores a state.
//!
//! The form of a state in a part is what its values are encoded as: value codec, stamp and schema version.
//! Only the program that migrates a state can turn one form into another. So entries of different forms stay
//! apart: each has the row of its form, and a fold writes each row to a segment of its own *layer*.

use std::collections::BTreeMap;

use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::SegmentName;
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, Result};

/// The states of one part of a snapshot.
pub(crate) struct PartStates<'a> {
    pub(crate) segment: &'a SegmentName,
    pub(crate) key_groups: KeyGroupRange,
    /// Sorted by name.
    pub(crate) states: &'a [StateMeta],
}

/// Where a state of a part stands in the common table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The position of the state by its name, whatever its form.
    pub(crate) rank: u16,
    /// The row of the form that the part has.
    pub(crate) row: u16,
}

/// The common table.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    /// Sorted by name; the forms of one state by their layers.
    pub(crate) rows: Vec<StateMeta>,
    /// The layer of each row, from 0 for each state: of two parts that overlap, the newer one has no lower
    /// layer than the older one, and a higher one if its form differs.
    pub(crate) layers: Vec<u16>,
    /// The place of each state of each part.
    pub(crate) places: Vec<Vec<Place>>,
}

impl Forms {
    /// Unites the states of `parts`, oldest first.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) when two parts have a state of one name whose entries have
    /// different addresses; [`Unsupported`](ErrorKind::Unsupported) for more than 65,535 forms.
    pub(crate) fn of(parts: &[PartStates<'_>]) -> Result<Self> {
        let mut by_name: BTreeMap<&str, Vec<(usize, &StateMeta)>> = BTreeMap::new();
        for (index, part) in parts.iter().enumerate() {
            for meta in part.states {
                by_name.entry(&meta.name).or_default().push((index, meta));
            }
        }
        let mut forms = Self { places: vec![Vec::new(); parts.len()], ..Self::default() };
        for (rank, uses) in by_name.into_values().enumerate() {
            if let [(_, first), rest @ ..] = &uses[..]
                && let Some((at, other)) = rest.iter().find(|(_, other)| !same_addresses(first, other))
            {
                return Err(conflict(first, other).with("segment", parts[*at].segment));
            }
            let (of_state, layers) = layers(parts, &uses);
            let first_row = forms.rows.len();
            for ((part, _), layer) in uses.iter().zip(layers) {
                forms.places[*part].push(Place { rank: rank as u16, row: (first_row + layer) as u16 });
            }
            forms.layers.extend(0..of_state.len() as u16);
            forms.rows.extend(of_state.into_iter().cloned());
        }
        if forms.rows.len() > usize::from(u16::MAX) {
            let message = "the parts of the snapshot have more than 65,535 states and forms";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(forms)
    }
}

/// Returns the forms of one state by layer, and the layer of each use.
fn layers<'a>(parts: &[PartStates<'_>], uses: &[(usize, &'a StateMeta)]) -> (Vec<&'a StateMeta>, Vec<usize>) {
    let Some((_, first)) = uses.first() else { return (Vec::new(), Vec::new()) };
    if uses.iter().all(|(_, meta)| meta == first) {
        return (vec![first], vec![0; uses.len()]);
    }
    let mut forms: Vec<&StateMeta> = Vec::new();
    let mut layers: Vec<usize> = Vec::with_capacity(uses.len());
    for &(part, meta) in uses {
        let groups = parts[part].key_groups;
        let older = uses.iter().zip(&layers).filter(|((older, _), _)| {
            let overlap = parts[*older].key_groups.intersect(groups);
            !overlap.is_empty()
        });
        let lowest = older.map(|((_, form), layer)| layer + usize::from(*form != meta)).max().unwrap_or(0);
        let fitting = (lowest..forms.len()).find(|layer| forms[*layer] == meta);
        layers.push(fitting.unwrap_or_else(|| {
            forms.push(meta);
            forms.len() - 1
        }));
    }
    (forms, layers)
}

/// Returns whether the entries of two states have the same addresses, so that they can be merged.
fn same_addresses(a: &StateMeta, b: &StateMeta) -> bool {
    a.kind == b.kind
        && a.key_codec == b.key_codec
        && a.namespace_codec == b.namespace_codec
        && a.sub_codec == b.sub_codec
}

fn conflict(older: &StateMeta, newer: &StateMeta) -> Error {
    let differs = |what: &str, x: &dyn std::fmt::Display, y: &dyn std::fmt::Display| {
        format!(
            "state {:?} has {what} {x} in an older part of the snapshot and {y} in a newer one",
            older.name
        )
    };
    let quoted = |name, x: &String, y: &String| differs(name, &format_args!("{x:?}"), &format_args!("{y:?}"));
    let message = if older.kind != newer.kind {
        differs("kind", &older.kind, &newer.kind)
    } else if older.key_codec != newer.key_codec {
        quoted("key codec", &older.key_codec, &newer.key_codec)
    } else if older.namespace_codec != newer.namespace_codec {
        quoted("namespace codec", &older.namespace_codec, &newer.namespace_codec)
    } else {
        quoted("map key codec", &older.sub_codec, &newer.sub_codec)
    };
    Error::new(ErrorKind::Incompatible, message + "; such parts cannot belong to one snapshot")
        .with("state", &older.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use strandline_state_api::schema::StateKind;

    fn meta(version: u32) -> StateMeta {
        StateMeta { schema_version: version, ..StateMeta::new("s", StateKind::List) }
    }

    /// Returns the layer of each part, whose range and version are given, and the versions by layer.
    fn layered(parts: &[((u32, u32), u32)]) -> (Vec<u16>, Vec<u32>) {
        let name = SegmentName("segment".into());
        let metas: Vec<_> = parts.iter().map(|(_, version)| [meta(*version)]).collect();
        let states: Vec<_> = (parts.iter().zip(&metas))
            .map(|(((start, end), _), states)| PartStates {
                segment: &name,
                key_groups: KeyGroupRange::new(*start, *end),
                states,
            })
            .collect();
        let forms = Forms::of(&states).unwrap();
        let layers = forms.places.iter().map(|places| forms.layers[usize::from(places[0].row)]).collect();
        (layers, forms.rows.iter().map(|row| row.schema_version).collect())
    }

    #[test]
    fn a_newer_form_has_a_higher_layer() {
        assert_eq!(layered(&[((0, 9), 1), ((0, 9), 1), ((0, 9), 2)]), (vec![0, 0, 1], vec![1, 2]));
        // An older form comes back, as when two programs that read each other's values take turns.
        assert_eq!(layered(&[((0, 9), 1), ((0, 9), 2), ((0, 9), 1)]), (vec![0, 1, 2], vec![1, 2, 1]));
    }

    #[test]
    fn chains_of_other_key_groups_share_layers() {
        let chains = [((0, 5), 1), ((0, 5), 2), ((5, 9), 1), ((5, 9), 2)];
        assert_eq!(layered(&chains), (vec![0, 1, 0, 1], vec![1, 2]));
        let chains = [((0, 5), 1), ((0, 5), 2), ((5, 9), 2)];
        assert_eq!(layered(&chains), (vec![0, 1, 1], vec![1, 2]));
    }
}
