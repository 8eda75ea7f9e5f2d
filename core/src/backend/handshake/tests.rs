//! Tests of the handshake.

use super::*;

const ID: &str = "07c37dfeb235213a872192d90877d0cd55635b91";

fn id_reply() -> Vec<u8> {
    format!("$40\r\n{ID}\r\n").into_bytes()
}

fn with_password() -> Credentials {
    Credentials {
        user: None,
        password: Some("secret".into()),
    }
}

#[test]
fn auth_goes_alone_and_the_rest_follows() {
    let mut handshake = Handshake::new(
        &with_password(),
        Protocol::Resp3,
        Some(Identity::Member(ID.into())),
        Vec::new(),
        Timestamp::ZERO,
    );
    assert_eq!(
        handshake.take_output(),
        b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n"
    );
    assert_eq!(handshake.on_reply(b"+OK\r\n"), HandshakeStep::Continue);
    let rest = handshake.take_output();
    assert!(rest.starts_with(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"));
    assert_eq!(
        handshake.on_reply(b"%1\r\n+proto\r\n:3\r\n"),
        HandshakeStep::Pending
    );
    assert_eq!(handshake.on_reply(b"+OK\r\n"), HandshakeStep::Pending);
    assert_eq!(handshake.on_reply(&id_reply()), HandshakeStep::Pending);
    assert_eq!(handshake.on_reply(b":12\r\n"), HandshakeStep::Pending);
    let info = b"=25\r\ntxt:id=12 addr=10.0.0.1:9\r\n";
    assert_eq!(handshake.on_reply(info), HandshakeStep::Ready);
    let id = ClientId {
        number: 12,
        address: Some("10.0.0.1:9".into()),
    };
    assert_eq!(handshake.client_id(), Some(&id));
}

#[test]
fn earlier_connections_are_killed_before_this_one_is_used_d9() {
    let mut handshake = Handshake::new(
        &Credentials::default(),
        Protocol::Resp2,
        None,
        [3, 99, 12]
            .map(|number| {
                let address = None;
                Fence::new(ClientId { number, address }, Timestamp::ZERO)
            })
            .to_vec(),
        Timestamp::ZERO.after(std::time::Duration::from_secs(1)),
    );
    handshake.take_output();
    for reply in [&b"+OK\r\n"[..], &id_reply()] {
        assert_eq!(handshake.on_reply(reply), HandshakeStep::Pending);
    }
    assert_eq!(handshake.on_reply(b":13\r\n"), HandshakeStep::Pending);
    let unknown = b"-ERR Unknown subcommand or wrong number of arguments for 'INFO'\r\n";
    assert_eq!(handshake.on_reply(unknown), HandshakeStep::Continue);
    // 99 was given by a process that has ended since: nobody's connection is killed for it.
    assert_eq!(handshake.take_output(), b"*4\r\n$6\r\nCLIENT\r\n$4\r\nKILL\r\n$2\r\nID\r\n$1\r\n3\r\n*4\r\n$6\r\nCLIENT\r\n$4\r\nKILL\r\n$2\r\nID\r\n$2\r\n12\r\n");
    assert_eq!(handshake.on_reply(b":1\r\n"), HandshakeStep::Pending);
    assert_eq!(handshake.on_reply(b"-NOPERM no\r\n"), HandshakeStep::Ready);
}

#[test]
fn another_node_at_the_address_is_refused_t13() {
    let mut handshake = Handshake::new(
        &Credentials::default(),
        Protocol::Resp2,
        Some(Identity::Member("f".repeat(40).into())),
        Vec::new(),
        Timestamp::ZERO,
    );
    assert_eq!(handshake.on_reply(b"+OK\r\n"), HandshakeStep::Pending);
    assert_eq!(
        handshake.on_reply(&id_reply()),
        HandshakeStep::Failed(HandshakeFailure::WrongNode(ID.to_owned()))
    );
}

#[test]
fn another_process_at_the_address_is_refused_n24() {
    let step = |reply: &[u8]| {
        let expected = Some(Identity::Process(ID.into()));
        let (credentials, fences) = (Credentials::default(), Vec::new());
        let mut handshake = Handshake::new(
            &credentials,
            Protocol::Resp2,
            expected,
            fences,
            Timestamp::ZERO,
        );
        assert!(handshake.take_output().ends_with(
            b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n*2\r\n$6\r\nCLIENT\r\n$4\r\nINFO\r\n"
        ));
        assert_eq!(handshake.on_reply(b"+OK\r\n"), HandshakeStep::Pending);
        handshake.on_reply(reply)
    };
    let info = |id: &str| {
        let text = format!("# Server\r\nredis_version:7.0.15\r\nrun_id:{id}\r\n");
        format!("${}\r\n{text}\r\n", text.len())
    };
    assert_eq!(step(info(ID).as_bytes()), HandshakeStep::Pending);
    let other = "a".repeat(40);
    assert_eq!(
        step(info(&other).as_bytes()),
        HandshakeStep::Failed(HandshakeFailure::WrongNode(other))
    );
    // It does not tell: the check is skipped.
    assert_eq!(step(b"-NOPERM no\r\n"), HandshakeStep::Pending);
    assert_eq!(step(b"$2\r\nno\r\n"), HandshakeStep::Pending);
}

#[test]
fn refusals_mean_feature_absent_but_not_for_authentication_f1() {
    let mut handshake = Handshake::new(
        &Credentials::default(),
        Protocol::Resp2,
        Some(Identity::Member(ID.into())),
        Vec::new(),
        Timestamp::ZERO,
    );
    for _ in ["CLIENT SETNAME", "CLUSTER MYID", "CLIENT ID"] {
        let step = handshake.on_reply(b"-NOPERM no\r\n");
        assert_eq!(step, HandshakeStep::Pending);
    }
    assert_eq!(handshake.on_reply(b"-NOPERM no\r\n"), HandshakeStep::Ready);

    let mut handshake = Handshake::new(
        &Credentials::default(),
        Protocol::Resp2,
        None,
        Vec::new(),
        Timestamp::ZERO,
    );
    assert!(matches!(
        handshake.on_reply(b"-NOAUTH Authentication required.\r\n"),
        HandshakeStep::Failed(HandshakeFailure::Authentication(_))
    ));

    let mut handshake = Handshake::new(
        &with_password(),
        Protocol::Resp2,
        None,
        Vec::new(),
        Timestamp::ZERO,
    );
    assert!(matches!(
        handshake.on_reply(b"-WRONGPASS x\r\n"),
        HandshakeStep::Failed(HandshakeFailure::Authentication(_))
    ));

    let mut handshake = Handshake::new(
        &Credentials::default(),
        Protocol::Resp3,
        None,
        Vec::new(),
        Timestamp::ZERO,
    );
    assert_eq!(
        handshake.on_reply(b"-ERR unknown command `HELLO`\r\n"),
        HandshakeStep::Failed(HandshakeFailure::NoResp3)
    );
}

#[test]
fn a_node_without_room_is_neither_a_wrong_password_nor_an_old_version() {
    let full = b"-ERR max number of clients reached\r\n";
    for credentials in [Credentials::default(), with_password()] {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let step = Handshake::new(&credentials, protocol, None, Vec::new(), Timestamp::ZERO)
                .on_reply(full);
            assert!(
                matches!(step, HandshakeStep::Failed(HandshakeFailure::Unexpected(_))),
                "{step:?}"
            );
        }
    }
}

#[test]
fn a_password_the_node_does_not_want_is_no_fault() {
    let mut handshake = Handshake::new(
        &with_password(),
        Protocol::Resp2,
        None,
        Vec::new(),
        Timestamp::ZERO,
    );
    let reply = b"-ERR AUTH <password> called without any password configured for the default user. Are you sure?\r\n";
    assert_eq!(handshake.on_reply(reply), HandshakeStep::Continue);
}

#[test]
fn the_password_is_never_printed_z7() {
    assert!(!format!("{:?}", with_password()).contains("secret"));
}

#[test]
fn a_connection_goes_to_its_database_last_or_is_not_used_n21() {
    let ends = [
        (&b"+OK\r\n"[..], HandshakeStep::Ready),
        (
            b"-ERR DB index is out of range\r\n",
            HandshakeStep::Failed(HandshakeFailure::Database(
                "ERR DB index is out of range".to_owned(),
            )),
        ),
    ];
    for credentials in [Credentials::default(), with_password()] {
        for (reply, end) in &ends {
            let has_password = credentials.password.is_some();
            let (none, start) = (Vec::new(), Timestamp::ZERO);
            let mut handshake =
                Handshake::new(&credentials, Protocol::Resp2, None, none, start).in_database(12);
            if has_password {
                handshake.take_output();
                assert_eq!(handshake.on_reply(b"+OK\r\n"), HandshakeStep::Continue);
            }
            let select = b"*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n";
            assert!(handshake.take_output().ends_with(select));
            for known in [&b"+OK\r\n"[..], &id_reply(), b":12\r\n", b"-ERR no\r\n"] {
                assert_eq!(handshake.on_reply(known), HandshakeStep::Pending);
            }
            assert_eq!(handshake.on_reply(reply), *end);
        }
    }
}
