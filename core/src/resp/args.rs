//! A decoded request as a view: the buffer it lies in, and where its arguments are.

/// Where one argument lies, relative to the first byte of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArgRange {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// The arguments of one request, the command's name included.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    buf: &'a [u8],
    ranges: &'a [ArgRange],
}

impl<'a> Args<'a> {
    /// A view of `ranges` in `buf`. A range that does not lie in `buf` reads as an absent argument.
    #[must_use]
    pub const fn new(buf: &'a [u8], ranges: &'a [ArgRange]) -> Self {
        Self { buf, ranges }
    }

    /// Number of arguments, the command's name included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is not even a name.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Argument `i`; 0 is the command's name.
    #[must_use]
    #[inline]
    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        slice(self.buf, *self.ranges.get(i)?)
    }

    /// The command's name as sent, or nothing if there are no arguments.
    #[must_use]
    #[inline]
    pub fn name(&self) -> &'a [u8] {
        self.get(0).unwrap_or_default()
    }

    /// The arguments in order, the name first.
    #[inline]
    pub fn iter(
        &self,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone + use<'a> {
        let buf = self.buf;
        self.ranges
            .iter()
            .map(move |&range| slice(buf, range).unwrap_or_default())
    }

    /// Where the arguments lie.
    #[must_use]
    pub const fn ranges(&self) -> &'a [ArgRange] {
        self.ranges
    }
}

#[inline]
fn slice(buf: &[u8], range: ArgRange) -> Option<&[u8]> {
    buf.get(range.start as usize..)?.get(..range.len as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_in_place() {
        let ranges = [
            ArgRange { start: 0, len: 3 },
            ArgRange { start: 4, len: 0 },
            ArgRange { start: 5, len: 1 },
        ];
        let args = Args::new(b"GET  k", &ranges);
        assert_eq!(
            (args.len(), args.is_empty(), args.name()),
            (3, false, &b"GET"[..])
        );
        assert_eq!(
            (args.get(1), args.get(2), args.get(3)),
            (Some(&b""[..]), Some(&b"k"[..]), None)
        );
        assert_eq!(args.iter().collect::<Vec<_>>(), [&b"GET"[..], b"", b"k"]);
        assert_eq!(args.ranges(), ranges);
    }

    #[test]
    fn a_range_outside_the_buffer_reads_as_absent() {
        let ranges = [
            ArgRange {
                start: 2,
                len: u32::MAX,
            },
            ArgRange { start: 9, len: 0 },
        ];
        let args = Args::new(b"abc", &ranges);
        assert_eq!(
            (args.name(), args.get(0), args.get(1)),
            (&b""[..], None, None)
        );
        assert_eq!(args.iter().collect::<Vec<_>>(), [b"", b""]);
        assert!(Args::new(b"abc", &[]).name().is_empty());
    }
}
