//! Variables that are no settings, or empty ones.

use super::tests::{from_env, from_file};

/// What is warned of with these variables.
fn warnings(env: &[(&str, &str)]) -> Vec<String> {
    from_env(env).unwrap().warnings
}

#[test]
fn a_close_miss_of_a_variable_is_warned_of() {
    for (name, meant) in [
        ("GUARDBEAT_SERVER_LISTEN", "GUARDBEAT_SERVER__LISTEN"),
        ("guardbeat_server__listen", "GUARDBEAT_SERVER__LISTEN"),
        ("GUARDBEAT_LISTEN", "GUARDBEAT_SERVER__LISTEN"),
        ("GUARDBEAT_STORE_KEY_PREFX", "GUARDBEAT_STORE__KEY_PREFIX"),
        ("GAURDBEAT_TLS__MODE", "GUARDBEAT_TLS__MODE"),
        ("GUARDBEAT_AUTH_ADMIN_TOKEN", "GUARDBEAT_AUTH__ADMIN_TOKEN"),
        ("GUARDBEAT_ADMIN_TOKEN_FILE", "GUARDBEAT_AUTH__ADMIN_TOKEN_FILE"),
        ("MANAGER_AUTH_TOKN", "MANAGER_AUTH_TOKEN"),
        ("MANAGER_HEARTBEAT_TIMEOUT", "MANAGER_HEARTBEAT_TIMEOUT_MS"),
        ("CORS_ALLOWED_ORIGIN", "CORS_ALLOWED_ORIGINS"),
        ("REDIS_URI", "REDIS_URL"),
        ("redis_url", "REDIS_URL"),
    ] {
        let expected = format!("environment variable {name} sets nothing; did you mean {meant}?");
        assert_eq!(warnings(&[(name, "a-value")]), [expected]);
    }
    for stranger in
        ["GUARDBEAT_TOKEN", "GUARDBEAT_TEST_TLS", "MANAGER_HOST", "REDIS_HOST", "PATH", "LOG_LEVEL", "", "_"]
    {
        assert!(warnings(&[(stranger, "a-value")]).is_empty(), "{stranger}");
    }
}

#[test]
fn an_empty_variable_is_warned_of_with_what_holds_instead() {
    let holds = |env: &[_]| warnings(env).concat();
    assert_eq!(
        holds(&[("REDIS_URL", "")]),
        "environment variable REDIS_URL is empty and counts as not set; store.url is \"embedded:\" (default)"
    );
    let elsewhere = holds(&[("REDIS_URL", ""), ("GUARDBEAT_STORE__URL", "memory:")]);
    assert!(
        elsewhere.ends_with("store.url is \"memory:\" (from environment variable GUARDBEAT_STORE__URL)"),
        "{elsewhere}"
    );
    let token = holds(&[("MANAGER_AUTH_TOKEN", "")]);
    assert!(
        token.ends_with("auth.admin_token is not set (one is generated at the first start, kept in the data folder, and shown if stdout is a terminal)")
    );
    let secret = holds(&[("MANAGER_AUTH_TOKEN", ""), ("GUARDBEAT_AUTH__ADMIN_TOKEN", "correct-horse")]);
    assert!(secret.contains("auth.admin_token is set (from") && !secret.contains("horse"), "{secret}");
    assert_eq!(warnings(&[("GUARDBEAT_SERVER__LISTEN", ""), ("MANAGER_PORT", "")]).len(), 2);
}

#[test]
fn links_of_kubernetes_are_named_and_passed_over() {
    let link = "tcp://10.96.12.3:8443";
    let config = from_env(&[
        ("MANAGER_PORT", link),
        ("MANAGER_PORT_8443_TCP", link),
        ("GUARDBEAT_PORT", link),
        ("GUARDBEAT_PORT_8443_TCP_ADDR", "10.96.12.3"),
        ("GUARDBEAT_SERVICE_HOST", "10.96.12.3"),
        ("GUARDBEAT_SERVICE_PORT_HTTPS", "8443"),
        ("GUARDBEAT__SERVER_PORT", link),
        ("REDIS_PORT", link),
    ])
    .unwrap();
    assert_eq!(config.server.listen.port(), 8443);
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    let names = "GUARDBEAT_PORT, GUARDBEAT_PORT_8443_TCP_ADDR, GUARDBEAT_SERVICE_HOST, GUARDBEAT_SERVICE_PORT_HTTPS, \
                 GUARDBEAT__SERVER_PORT, MANAGER_PORT are links that Kubernetes sets";
    assert!(warning.starts_with(names), "{warning}");
    from_env(&[("MANAGER_PORT", "http://10.96.12.3")]).unwrap_err();
}

#[test]
fn warnings_are_reported_with_the_errors_too() {
    let errors =
        from_env(&[("GUARDBEAT_SERVER__LISTEN", "0.0.0.0:1"), ("GUARDBEAT_AUTH_ADMIN_TOKEN", "correct-horse")]);
    let errors = errors.unwrap_err();
    let lines: Vec<_> = errors.lines().collect();
    assert!(lines[0].contains("nobody has chosen the administrator's token"), "{errors}");
    assert_eq!(
        lines[1..],
        [
            "Warning: environment variable GUARDBEAT_AUTH_ADMIN_TOKEN sets nothing; did you mean GUARDBEAT_AUTH__ADMIN_TOKEN?"
        ]
    );
}

#[test]
fn a_byte_order_mark_before_the_file_or_a_token_is_passed_over() {
    let file = "\u{feff}[auth]\nadmin_token = \"\u{feff}correct-horse\\r\\n\"\n";
    assert_eq!(from_file(file).unwrap().auth.admin_token.as_deref(), Some("correct-horse"));
    let variable = from_env(&[("MANAGER_AUTH_TOKEN", "\u{feff}correct-horse\n")]).unwrap();
    assert_eq!(variable.auth.admin_token.as_deref(), Some("correct-horse"));
    let errors = from_file("\u{feff}[auth]\nadmin_token = \"'correct-horse'\"").unwrap_err();
    assert!(errors.starts_with("FILE:2: auth.admin_token cannot be used") && errors.contains("the quotes"), "{errors}");
}
