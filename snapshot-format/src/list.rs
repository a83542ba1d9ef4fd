//! The value of a list entry: the elements one after the other, each as a variable-length length and its
//! bytes.
//!
//! The concatenation of two lists is the list of all their elements, so [`Op::Append`](crate::Op::Append)
//! needs no decoding.
//!
//! ```
//! use strandline_snapshot_format::list;
//!
//! let mut value = Vec::new();
//! list::push(&mut value, b"one");
//! list::push(&mut value, b"");
//! let elements = list::elements(&value).collect::<Result<Vec<_>, _>>().unwrap();
//! assert_eq!(elements, [&b"one"[..], b""]);
//! ```

use std::borrow::Borrow;

use crate::varint;
use strandline_state_api::backend::StoredValues;
use strandline_state_api::{Error, Result};

/// Appends an element.
#[inline]
pub fn push(value: &mut Vec<u8>, element: &[u8]) {
    varint::push(value, element.len() as u64);
    value.extend_from_slice(element);
}

/// Encodes elements in their current form and appends them. `scratch` holds one encoded element at a time.
///
/// # Errors
/// Those of the codec; `value` then holds the elements before.
#[inline]
pub fn extend<T: 'static>(
    value: &mut Vec<u8>,
    elements: impl IntoIterator<Item: Borrow<T>>,
    form: &StoredValues<T>,
    scratch: &mut Vec<u8>,
) -> Result<()> {
    for element in elements {
        scratch.clear();
        form.encode(element.borrow(), scratch)?;
        push(value, scratch);
    }
    Ok(())
}

/// Returns an iterator over the elements of a list, in order.
///
/// The iterator yields [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) once, and then ends, when the
/// bytes are no list.
pub fn elements(value: &[u8]) -> Elements<'_> {
    Elements { value, pos: 0 }
}

/// The iterator that [`elements`] returns.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    value: &'a [u8],
    pos: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.pos == self.value.len() {
            return None;
        }
        let start = self.pos;
        Some(match varint::read_bytes(self.value, &mut self.pos) {
            Some((from, to)) => Ok(&self.value[from..to]),
            None => {
                self.pos = self.value.len();
                Err(Error::corrupt(format!(
                    "the list element at byte {start} of {} is cut short",
                    self.value.len()
                )))
            }
        })
    }
}
