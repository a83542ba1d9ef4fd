//! State with a time-to-live. An access must not return an expired value, whether the backend has removed it
//! or not.

use strandline_state_api::{KeyScope, KeyedBackend};

use super::Op;
use crate::access::ms;
use crate::world::contents::Contents;
use crate::world::{Failure, States, same};

pub(super) fn apply<B: KeyedBackend<Key = String>>(
    op: &Op,
    scope: &mut KeyScope<'_, B>,
    states: &States,
    model: &mut Contents,
) -> Result<(), Failure> {
    let ahead = match op {
        Op::BriefPut(_, _, ahead)
        | Op::BriefAdd(_, _, ahead)
        | Op::RecentAdd(_, _, ahead)
        | Op::RecentGet(_, ahead) => *ahead,
        _ => 0,
    };
    let stamp = model.time.watermark + ahead;
    scope.backend().clock().timestamp = ms(stamp);
    let applied = apply_at(op, scope, states, model, stamp);
    scope.backend().clock().timestamp = None;
    applied
}

fn apply_at<B: KeyedBackend<Key = String>>(
    op: &Op,
    scope: &mut KeyScope<'_, B>,
    states: &States,
    model: &mut Contents,
    stamp: i64,
) -> Result<(), Failure> {
    let (key, time) = (scope.key().clone(), model.time);
    match op {
        Op::BriefPut(_, value, _) => {
            scope.state(states.values.brief).put(*value)?;
            model.brief.insert(key.clone(), (stamp, *value));
        }
        Op::BriefAdd(_, by, _) => {
            let add = |value: &mut u64| {
                *value = value.wrapping_add(*by);
                *value
            };
            let got = scope.state(states.values.brief).modify(|| 5, add)?;
            let (was, value) = model.brief.entry(key.clone()).or_insert((stamp, 5));
            if !time.brief_lives(*was) {
                (*was, *value) = (stamp, 5);
            }
            *was = stamp.max(*was);
            same(op, got, add(value))?;
        }
        Op::RecentAdd(_, element, _) => {
            let Some(states) = states.lists else { return Ok(()) };
            scope.state(states.recent).push(element.clone())?;
            model.recent.entry(key.clone()).or_default().push((stamp, element.clone()));
            return Ok(());
        }
        Op::RecentGet(..) => {
            let Some(states) = states.lists else { return Ok(()) };
            let got = scope.state(states.recent).get()?.to_vec();
            let list = model.recent.entry(key.clone()).or_default();
            list.retain(|(stamp, _)| time.recent_lives(*stamp));
            list.iter_mut().for_each(|(was, _)| *was = stamp.max(*was));
            same(op, got, list.iter().map(|(_, element)| element.clone()).collect())?;
            if list.is_empty() {
                model.recent.remove(&key);
            }
            return Ok(());
        }
        Op::SeenPut(_, map_key, value) => {
            let Some(states) = states.maps else { return Ok(()) };
            scope.state(states.seen).put((*map_key).to_owned(), *value)?;
            let map = model.seen.entry(key.clone()).or_default();
            map.insert((*map_key).to_owned(), (time.processing, *value));
        }
        Op::SeenGet(_, map_key) => {
            let Some(states) = states.maps else { return Ok(()) };
            let got = scope.state(states.seen).get(&(*map_key).to_owned())?.copied();
            let living = |(stamp, value): &(i64, u64)| time.seen_lives(*stamp).then_some(*value);
            let wanted = model.seen.get(&key).and_then(|map| map.get(*map_key)).and_then(living);
            same(op, got, wanted)?;
        }
        Op::SeenAll(_) => {
            let Some(states) = states.maps else { return Ok(()) };
            let mut got = Vec::new();
            scope.state(states.seen).for_each(|map_key, value| {
                got.push((map_key.clone(), *value));
                Ok(())
            })?;
            got.sort();
            let items = model.seen.get(&key).into_iter().flatten();
            let living = items.filter(|(_, (stamp, _))| time.seen_lives(*stamp));
            let wanted: Vec<_> = living.map(|(map_key, (_, value))| (map_key.clone(), *value)).collect();
            same((op, "len"), scope.state(states.seen).len()?, wanted.len())?;
            same((op, "is empty"), scope.state(states.seen).is_empty()?, wanted.is_empty())?;
            same(op, got, wanted)?;
        }
        _ => {}
    }
    let brief = model.brief.get(&key).filter(|(stamp, _)| time.brief_lives(*stamp));
    let wanted = brief.map(|(_, value)| value);
    same((op, "then brief"), scope.state(states.values.brief).get()?, wanted)
}
