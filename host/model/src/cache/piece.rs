//! Bytes with their length before them: whatever is in them, they end where they end.
//!
//! A length takes one byte below 128, which those of most host names, paths and field values are: of a million small
//! responses in memory, fixed ones of four bytes take some thirty megabytes.

/// Appends a piece. One piece is written in one way only.
pub fn write(text: &mut Vec<u8>, piece: &[u8]) {
    let mut length = piece.len();
    while length >= 0x80 {
        text.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    text.push(length as u8);
    text.extend_from_slice(piece);
}

/// The first piece of a text, and what follows it; `None` where there is none.
pub fn read(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0;
    for (at, byte) in text.iter().enumerate().take(LENGTH_BYTES_MAX) {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return text[at + 1..].split_at_checked(length);
        }
    }
    None
}

/// How many bytes a piece of `length` takes.
pub fn bytes(length: usize) -> usize {
    let bits = usize::BITS - length.leading_zeros();
    length + bits.div_ceil(7).max(1) as usize
}

/// 32 GiB, or what a `usize` holds.
const LENGTH_BYTES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_as_they_were_written() {
        let lengths = [0, 1, 127, 128, 16_383, 16_384, 70_000];
        let mut text = Vec::new();
        for length in lengths {
            let before = text.len();
            write(&mut text, &vec![b'x'; length]);
            assert_eq!(text.len() - before, bytes(length), "{length}");
        }
        let mut rest = &text[..];
        for length in lengths {
            let (piece, others) = read(rest).unwrap();
            assert_eq!(piece.len(), length);
            rest = others;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn what_is_cut_off_is_no_piece() {
        let mut text = Vec::new();
        write(&mut text, &[b'x'; 300]);
        for end in 0..text.len() {
            assert_eq!(read(&text[..end]), None, "{end}");
        }
        assert_eq!(read(&[0xff; 20]), None);
    }
}
