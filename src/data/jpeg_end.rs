//! Whether a JPEG holds its whole picture. The decoder fills up what is missing with grey and says nothing.

const END: [u8; 2] = [0xff, 0xd9];

/// How far the bytes of a JPEG go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JpegEnd {
    /// The end is marked.
    Marked,
    /// There is no mark, and the file has one pass over the picture: the picture may be whole all the same.
    Open,
    /// There is no mark, and the passes that are missing would make the picture finer.
    Unfinished,
}

/// Looks for the mark that ends the picture.
pub(super) fn find(bytes: &[u8]) -> JpegEnd {
    // The mark can't stand within a picture's data, so that it needs no search in a file that ends with it.
    if bytes.ends_with(&END) {
        return JpegEnd::Marked;
    }
    let mut progressive = false;
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let Some((marker, after)) = next_marker(rest) {
        match marker {
            0xd9 => return JpegEnd::Marked,
            // Numbers without a segment: escaped bytes of the picture, restarts, and a start.
            0x00 | 0x01 | 0xd0..=0xd8 => rest = after,
            _ => {
                progressive |= matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce);
                let length =
                    after.get(..2).map(|two| usize::from(two[0]) << 8 | usize::from(two[1]));
                let Some(next) = length.and_then(|length| after.get(length.max(2)..)) else {
                    break;
                };
                rest = next;
            }
        }
    }
    if progressive { JpegEnd::Unfinished } else { JpegEnd::Open }
}

/// Returns files that a decoder reads as the same picture if `bytes` holds a whole one: they differ in what it reads past
/// the end. Of a picture that ends in its very last block all may be the same, which does little harm.
pub(super) fn continued(bytes: &[u8]) -> [Vec<u8>; 3] {
    const LENGTH: usize = 1 << 16;
    // The space for a download that broke off is often filled with zeros.
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let picture = &bytes[..used];
    // No number is 255, which would be a marker.
    let noise: Vec<u8> =
        (1..=LENGTH as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x7f).collect();
    [vec![], vec![0x55; LENGTH], noise].map(|more| [picture, &more, &END].concat())
}

/// Returns the next marker and what follows it.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let first = bytes.iter().position(|&byte| byte == 0xff)?;
    let filled = bytes.get(first..)?;
    let number = filled.iter().position(|&byte| byte != 0xff)?;
    Some((*filled.get(number)?, filled.get(number + 1..)?))
}
