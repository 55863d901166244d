//! The settings of the store: Redis, what only Redis can keep, and that no password is shown.

use super::{
    tests::{from_env, from_file},
    *,
};

#[test]
fn a_redis_and_all_that_belongs_to_it_can_be_set() {
    let config = from_file(
        "[store]\nurl = \"rediss://guardbeat:hunter2@redis.example/1\"\nkey_prefix = \"Fleet-1.a_b:\"\n\
         ca_file = \"ca.pem\"\nmin_replicas = 2\ntimeout_ms = 50\nconnect_timeout_ms = 3600000\n",
    );
    let store = config.unwrap().store;
    let expected = StoreConfig {
        url: "rediss://guardbeat:hunter2@redis.example:6379/1".parse().unwrap(),
        accept_loss: false,
        flush_interval_ms: 100,
        key_prefix: "Fleet-1.a_b:".into(),
        ca_file: Some("ca.pem".into()),
        min_replicas: 2,
        timeout_ms: 50,
        connect_timeout_ms: 3_600_000,
    };
    assert_eq!(store, expected);
    let of = |url| from_env(&[("REDIS_URL", url)]).unwrap().store;
    let expected =
        StoreConfig { url: "redis://h".parse().unwrap(), key_prefix: "guardbeat:".into(), ..Config::default().store };
    assert_eq!(of("redis://h:6379/0"), expected);
}

#[test]
fn values_out_of_bounds_are_reported_with_the_bounds() {
    let sixty_five = format!("key_prefix = \"{}\"", "x".repeat(65));
    let prefix_rule = "it must be 1 to 64 letters (a-z, A-Z), digits, colons, dots, underscores and hyphens";
    let cases = [
        ("min_replicas = 101", "store.min_replicas is 101; it must be a whole number of replicas from 0 to 100"),
        ("timeout_ms = 49", "store.timeout_ms is 49; it must be a whole number of milliseconds from 50 to 60000"),
        ("timeout_ms = 60001", "from 50 to 60000"),
        ("connect_timeout_ms = 99", "is 99; it must be a whole number of milliseconds from 100 to 3600000"),
        ("connect_timeout_ms = 3600001", "from 100 to 3600000"),
        ("ca_file = \"\"", "store.ca_file is \"\"; it must be the path"),
        ("key_prefix = \"\"", prefix_rule),
        ("key_prefix = \"{a}:\"", prefix_rule),
        ("key_prefix = \"a b\"", prefix_rule),
        ("key_prefix = \"é\"", prefix_rule),
        ("key_prefix = 5", prefix_rule),
        (&sixty_five, prefix_rule),
        ("url = 5", "store.url is a number; it must be a string such as"),
        ("key_prefx = \"a\"", "unknown key store.key_prefx; did you mean store.key_prefix?"),
    ];
    for (setting, expected) in cases {
        let errors = from_file(&format!("[store]\n{setting}\n")).unwrap_err();
        assert!(errors.starts_with("FILE:2: ") && errors.contains(expected), "{setting}\n{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn what_only_redis_can_keep_is_refused_for_other_stores() {
    let cases = [
        (
            "key_prefix = \"a:\"",
            "store.key_prefix (\"a:\", from FILE:2) is for Redis, and store.url (\"embedded:\", default) is none; give \
             store.url (REDIS_URL) a Redis, or leave store.key_prefix out",
        ),
        (
            "min_replicas = 1\nurl = \"memory:\"",
            "store.min_replicas (1, from FILE:2) is for Redis, and store.url (\"memory:\", from FILE:3) is none",
        ),
        ("ca_file = \"ca.pem\"", "store.ca_file (\"ca.pem\", from FILE:2) is for Redis"),
        (
            "ca_file = \"ca.pem\"\nurl = \"redis://:hunter2@h\"",
            "store.ca_file (\"ca.pem\", from FILE:2) is of no use, for store.url (\"redis://:***@h:6379/0\", from \
             FILE:3) is without TLS; begin the URL with rediss:// or rediss-sentinel://, or leave store.ca_file out",
        ),
        ("ca_file = \"ca.pem\"\nurl = \"redis+unix:///s\"", "(\"redis+unix:///s?db=0\", from FILE:3) is without TLS"),
    ];
    for (settings, expected) in cases {
        let errors = from_file(&format!("[store]\n{settings}\n")).unwrap_err();
        assert!(errors.contains(expected), "{settings}\n{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn what_changes_nothing_contradicts_nothing() {
    for settings in [
        "key_prefix = \"guardbeat:\"\nmin_replicas = 0",
        "timeout_ms = 100\nconnect_timeout_ms = 100",
        "ca_file = \"ca.pem\"\nurl = \"rediss-sentinel://h/service\"",
    ] {
        from_file(&format!("[store]\n{settings}\n")).unwrap();
    }
    // Of a URL that was refused nobody knows whether it is a Redis.
    let errors = from_file("[store]\nurl = \"redi://h\"\nkey_prefix = \"a:\"\nca_file = \"c\"\n").unwrap_err();
    assert!(errors.starts_with("FILE:2: store.url is \"redi:…\"; it must be `embedded:`"), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn a_refused_url_is_told_by_its_rule_and_shows_nothing_behind_the_scheme() {
    let cases = [
        ("redi://:hunter2@h", "\"redi:…\"; it must be `embedded:`, `embedded:FOLDER`, `redis://HOST`, `rediss://HOST`"),
        ("postgres://u:hunter2@h", "\"postgres:…\"; it must be `embedded:`"),
        ("hunter2", "a string without a known beginning; it must be"),
        ("hunter2@h:6379", "a string without a known beginning; it must be"),
        ("hunter2://h", "a string without a known beginning; it must be"),
        ("redis:hunter2@h", "\"redis:…\"; it must begin with `redis://`"),
        ("redis://hunter2@h", "\"redis:…\"; a colon must stand before the password: `redis://user:password@host`"),
        ("redis://:hunter2/x@h", "\"redis:…\"; a `/`, `?` or `#` in a user's name or password must be written"),
        ("redis://:hunter2%@h", "\"redis:…\"; a `%` must stand before two hexadecimal digits"),
        ("redis-sentinel://:hunter2@h", "\"redis-sentinel:…\"; the service that Sentinel knows must follow"),
        ("redis+unix:///s?password=hunter2", "\"redis+unix:…\"; behind a socket only `db`, `pass`, and with it"),
        ("redis://:***@hunter2", "\"redis:…\"; `***` stands for a password that is not shown"),
    ];
    for (url, expected) in cases {
        let variable = from_env(&[("REDIS_URL", url)]).unwrap_err();
        let expected = format!("store.url is {expected}");
        assert!(variable.starts_with("environment variable REDIS_URL: "), "{variable}");
        let file = from_file(&format!("store.url = \"{url}\"")).unwrap_err();
        for errors in [variable, file] {
            assert!(errors.contains(&expected), "{url}\n{errors}");
            assert!(!errors.contains("hunter2"), "{errors}");
            assert_eq!(errors.lines().count(), 1, "{errors}");
        }
    }
    // Lines that are not TOML, and names that are not settings.
    for text in ["url = \"redis://:hunter2@h", "url = redis://:hunter2@h", "urll = \"redis://:hunter2@h\""] {
        let errors = from_file(&format!("[store]\n{text}\n")).unwrap_err();
        assert!(errors.contains("FILE:2") && !errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn the_password_of_redis_is_shown_nowhere() {
    for (url, shown) in [
        ("redis://:hunter2@h", "redis://:***@h:6379/0"),
        ("rediss-sentinel://u:hunter2@a,[::1]:7/s", "rediss-sentinel://u:***@a:26379,[::1]:7/s/0"),
        ("unix:///s?pass=hunter2", "redis+unix:///s?db=0&pass=***"),
    ] {
        let config = from_env(&[("REDIS_URL", url)]).unwrap();
        let described = config.describe();
        assert!(described.contains(&format!("\nurl = \"{shown}\"\n")), "{described}");
        assert!(!format!("{config:?}{described}").contains("hunter2"));
        let again = from_file(&described).unwrap_err();
        assert!(
            again.contains("put the password itself there"),
            "what is shown is not taken for the password: {again}"
        );
    }
}

#[test]
fn a_described_redis_without_a_password_sets_exactly_that() {
    for url in ["redis://h:1/2", "rediss://[::1]", "redis-sentinel://a,b/s", "redis+unix:///a%20b/%C3%A9"] {
        let config = from_env(&[("REDIS_URL", url), ("GUARDBEAT_STORE__MIN_REPLICAS", "1")]).unwrap();
        assert_eq!(from_file(&config.describe()).unwrap(), config);
    }
}
