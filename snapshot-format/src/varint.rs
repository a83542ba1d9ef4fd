//! Variable-length integers: LEB128, seven bits a byte, the lowest first.

/// Appends `value`.
#[inline]
pub(crate) fn push(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a value at `*pos` and moves `pos` behind it; `None` when the bytes end or the value exceeds 64 bits.
#[inline]
pub(crate) fn read(bytes: &[u8], pos: &mut usize) -> Option<u64> {
    let first = *bytes.get(*pos)?;
    *pos += 1;
    if first < 0x80 {
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    for shift in (7..64).step_by(7) {
        let byte = *bytes.get(*pos)?;
        *pos += 1;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Reads a length, and takes the bytes that it counts; `None` when fewer are left.
#[inline]
pub(crate) fn read_bytes(bytes: &[u8], pos: &mut usize) -> Option<(usize, usize)> {
    let len = usize::try_from(read(bytes, pos)?).ok()?;
    take(bytes, pos, len)
}

/// Takes `len` bytes as (start, end); `None` when fewer are left.
#[inline]
pub(crate) fn take(bytes: &[u8], pos: &mut usize, len: usize) -> Option<(usize, usize)> {
    let start = *pos;
    let end = start.checked_add(len).filter(|end| *end <= bytes.len())?;
    *pos = end;
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_length_round_trip() {
        for bits in 0..=64u32 {
            for value in
                [1u64.checked_shl(bits).unwrap_or(0), 1u64.checked_shl(bits).unwrap_or(0).wrapping_sub(1)]
            {
                let mut out = Vec::new();
                push(&mut out, value);
                assert!(out.len() <= 10);
                let mut pos = 0;
                assert_eq!(read(&out, &mut pos), Some(value));
                assert_eq!(pos, out.len());
                assert_eq!(read(&out[..out.len() - 1], &mut 0), None);
            }
        }
    }

    #[test]
    fn values_above_64_bits_are_refused() {
        assert_eq!(read(&[0xff; 11], &mut 0), None);
        let mut bytes = [0xff; 10];
        bytes[9] = 2;
        assert_eq!(read(&bytes, &mut 0), None);
        assert_eq!(read_bytes(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 7], &mut 0), None);
    }
}
