//! The one field of `CLUSTER INFO` that the merge of views needs.

/// Whether the answering node holds the cluster for working: the field `cluster_state`. `None` if the field is not there.
#[must_use]
pub fn cluster_ok(text: &[u8]) -> Option<bool> {
    let mut lines = text
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    match lines.find_map(|line| line.strip_prefix(b"cluster_state:"))? {
        b"ok" => Some(true),
        b"fail" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::cluster_ok;

    #[test]
    fn reads_the_state_wherever_the_field_stands() {
        assert_eq!(
            cluster_ok(b"cluster_state:ok\r\ncluster_slots_assigned:16384\r\n"),
            Some(true)
        );
        assert_eq!(
            cluster_ok(b"cluster_slots_assigned:0\ncluster_state:fail\n"),
            Some(false)
        );
        assert_eq!(cluster_ok(b"xcluster_state:ok\r\n"), None);
        assert_eq!(cluster_ok(b"cluster_state:maybe\r\n"), None);
        assert_eq!(cluster_ok(b""), None);
    }
}
