//! Glob patterns as servers match them (`stringmatchlen` of Redis): `*`, `?`, `[a-z]`, `[^a]`, and `\` before a literal.

/// Whether `text` as a whole matches `pattern`; with `fold_case`, ASCII case does not matter.
///
/// Runs in time proportional to the product of both lengths at worst: after a mismatch only the last `*` is tried again.
#[must_use]
pub fn glob_match(pattern: &[u8], text: &[u8], fold_case: bool) -> bool {
    let (mut at, mut seen) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one byte further into the text.
    let mut retry: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, seen));
                continue;
            }
            Some(_) => {
                if let (Some(next), true) = match_one(pattern, at, text[seen], fold_case) {
                    (at, seen) = (next, seen + 1);
                    continue;
                }
            }
            None => {}
        }
        let Some((star, from)) = retry else {
            return false;
        };
        retry = Some((star, from + 1));
        (at, seen) = (star, from + 1);
    }
    pattern[at.min(pattern.len())..]
        .iter()
        .all(|&byte| byte == b'*')
}

/// Compares one byte with the pattern element at `at`; gives the position after the element and whether it matched.
fn match_one(pattern: &[u8], at: usize, byte: u8, fold_case: bool) -> (Option<usize>, bool) {
    let same = |a: u8, b: u8| {
        if fold_case {
            a.eq_ignore_ascii_case(&b)
        } else {
            a == b
        }
    };
    match (pattern.get(at), pattern.get(at + 1)) {
        (Some(b'?'), _) => (Some(at + 1), true),
        (Some(b'['), _) => class(pattern, at + 1, byte, fold_case),
        (Some(b'\\'), Some(&literal)) => (Some(at + 2), same(literal, byte)),
        (Some(&literal), _) => (Some(at + 1), same(literal, byte)),
        (None, _) => (None, false),
    }
}

/// Matches a byte against the class that begins at `at`, behind its bracket; an unclosed class ends with the pattern.
fn class(pattern: &[u8], at: usize, byte: u8, fold_case: bool) -> (Option<usize>, bool) {
    let fold = |byte: u8| {
        if fold_case {
            byte.to_ascii_lowercase()
        } else {
            byte
        }
    };
    let byte = fold(byte);
    let negated = pattern.get(at) == Some(&b'^');
    let mut at = at + usize::from(negated);
    let mut matched = false;
    loop {
        match pattern.get(at..).unwrap_or_default() {
            [b'\\', literal, ..] => {
                matched |= fold(*literal) == byte;
                at += 2;
            }
            [b']', ..] => return (Some(at + 1), matched != negated),
            [low, b'-', high, ..] => {
                let (low, high) = (fold(*low.min(high)), fold(*low.max(high)));
                matched |= (low..=high).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                matched |= fold(*literal) == byte;
                at += 1;
            }
            [] => return (Some(at), matched != negated),
        }
    }
}
