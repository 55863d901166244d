//! Settings that contradict each other.

use super::tests::{from_file, load_with};

#[test]
fn contradictions_name_both_sides() {
    let cases = [
        (
            "liveness.offline_after_ms = 300000",
            &[("MANAGER_HEARTBEAT_TIMEOUT_MS", "200000")][..],
            "liveness.offline_after_ms (300000, from FILE:1) must exceed liveness.timeout_ms (200000, from environment \
             variable MANAGER_HEARTBEAT_TIMEOUT_MS) + liveness.grace_ms (100000, default)",
        ),
        (
            "liveness.timeout_ms = 2592000000",
            &[],
            "liveness.offline_after_ms (2592000000, default) must exceed liveness.timeout_ms (2592000000, from FILE:1)",
        ),
        (
            "",
            &[("MANAGER_PORT", "9464")],
            "server.listen (\"127.0.0.1:9464\", from environment variable MANAGER_PORT) and metrics.listen \
             (\"127.0.0.1:9464\", default) are the same place",
        ),
        (
            "server.listen = \"0.0.0.0:1\"",
            &[("MANAGER_PORT", "2")],
            "server.listen (\"0.0.0.0:2\", from FILE:1 and environment variable MANAGER_PORT) can be reached from other \
             machines, but nobody has chosen the administrator's token; set auth.admin_token",
        ),
        (
            "server.listen = \"0.0.0.0:1\"\nauth.admin_token = \"correct-horse\"\ntls.mode = \"off\"",
            &[],
            "but tls.mode (\"off\", from FILE:3) would send tokens over the network in clear text; turn TLS on",
        ),
        (
            "auth.admin_token_file = \"t\"",
            &[("MANAGER_AUTH_TOKEN", "correct-horse")],
            "auth.admin_token (set, from environment variable MANAGER_AUTH_TOKEN) and auth.admin_token_file (\"t\", from \
             FILE:1) both give the token",
        ),
        (
            "metrics.listen = \"[::]:1\"",
            &[],
            "metrics.listen (\"[::]:1\", from FILE:1) can be reached from other machines",
        ),
        (
            "tls.mode = \"files\"\ntls.key_file = \"k\"",
            &[],
            "tls.mode (\"files\", from FILE:1) needs tls.cert_file and tls.key_file; tls.cert_file is not set",
        ),
        (
            "tls.key_file = \"k\"",
            &[],
            "tls.key_file (\"k\", from FILE:1) contradicts tls.mode (\"self-signed\", default); set tls.mode to",
        ),
    ];
    for (text, env, expected) in cases {
        let errors = load_with(text, env, &[]).unwrap_err();
        assert!(errors.contains(expected), "{text}\n{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn a_refused_value_contradicts_nothing() {
    let errors = from_file("server.listen = \"0.0.0.0:1\"\nauth.admin_token = \"short\"\n").unwrap_err();
    assert_eq!(
        errors,
        "FILE:2: auth.admin_token cannot be used (it is not shown); it must be 8 to 256 visible ASCII characters, and has \
         5"
    );
}

#[test]
fn an_exposed_address_needs_a_chosen_token_and_tls_or_consent() {
    let loopback = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"];
    let exposed = ["0.0.0.0:1", "192.0.2.1:1", "[::]:1", "[fe80::1]:1"];
    let loads =
        |listen, more: &[_]| load_with("", &[&[("GUARDBEAT_SERVER__LISTEN", listen)], more].concat(), &[]).is_ok();
    let (token, tls_off) = (("MANAGER_AUTH_TOKEN", "correct-horse"), ("GUARDBEAT_TLS__MODE", "off"));
    let consent = |what| ("GUARDBEAT_SERVER__ALLOW_EXPOSED", what);
    for listen in loopback {
        assert!(loads(listen, &[]) && loads(listen, &[tls_off]), "{listen}");
    }
    for listen in exposed {
        assert!(!loads(listen, &[]) && !loads(listen, &[tls_off]) && !loads(listen, &[token, tls_off]), "{listen}");
        assert!(loads(listen, &[token]) && loads(listen, &[("GUARDBEAT_AUTH__ADMIN_TOKEN_FILE", "t")]), "{listen}");
        assert!(loads(listen, &[consent("token")]) && loads(listen, &[tls_off, consent("token,tls")]), "{listen}");
        assert!(loads(listen, &[tls_off, token, consent("tls")]), "{listen}");
        for (more, what) in
            [(&[][..], "tls,metrics"), (&[tls_off], "tls,metrics"), (&[tls_off, token], "token,metrics")]
        {
            assert!(!loads(listen, &[more, &[consent(what)]].concat()), "{listen}: {what} is another matter");
        }
        let metrics = ("GUARDBEAT_METRICS__LISTEN", listen);
        assert!(loads("127.0.0.1:2", &[metrics, consent("metrics")]), "{listen}");
        assert!(!loads("127.0.0.1:2", &[metrics, consent("token,tls")]), "{listen}");
    }
}

#[test]
fn listeners_that_cannot_both_be_bound_are_refused() {
    let cases = [
        ("127.0.0.1:1", "127.0.0.1:1", false),
        ("127.0.0.1:0", "127.0.0.1:0", true),
        ("127.0.0.1:1", "127.0.0.2:1", true),
        ("0.0.0.0:1", "127.0.0.1:1", false),
        ("[::]:1", "127.0.0.1:1", false),
        ("[::1]:1", "0.0.0.0:1", true),
    ];
    for (server, metrics, possible) in cases {
        let text = format!(
            "server = {{ listen = \"{server}\", allow_exposed = [\"token\", \"metrics\"] }}\nmetrics.listen = \"{metrics}\""
        );
        assert_eq!(from_file(&text).is_ok(), possible, "{text}");
    }
}
