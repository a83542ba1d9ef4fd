//! Shortens a failing program.

use crate::world::Failure;

use super::step::Step;

/// The maximum number of programs to try.
const TRIES: usize = 600;

/// Leaves out longer, then shorter runs of steps, as long as the program still fails (delta debugging).
pub(super) fn shrink(
    mut program: Vec<Step>,
    mut failure: Failure,
    run: impl Fn(&[Step]) -> Option<Failure>,
) -> (Vec<Step>, Failure) {
    let mut tries = 0;
    let mut chunk = program.len().div_ceil(2);
    while chunk > 0 {
        let mut shorter_found = false;
        let mut start = 0;
        while start < program.len() && tries < TRIES {
            tries += 1;
            let end = (start + chunk).min(program.len());
            let shorter = [&program[..start], &program[end..]].concat();
            if let Some(its_failure) = run(&shorter) {
                (program, failure) = (shorter, its_failure);
                shorter_found = true;
            } else {
                start = end;
            }
        }
        if !shorter_found || chunk > 1 {
            chunk /= 2;
        }
        if tries >= TRIES {
            break;
        }
    }
    (program, failure)
}
