use proptest::prelude::*;

use super::{RedisUrlError::*, *};

fn parsed(text: &str) -> Result<RedisUrl, RedisUrlError> {
    text.parse()
}

fn tcp(host: &str, port: u16) -> Servers {
    Servers::Direct(RedisAddress::Tcp { host: host.into(), port })
}

fn sentinel(nodes: &[(&str, u16)], service: &str) -> Servers {
    let nodes = nodes.iter().map(|(host, port)| (host.to_string(), *port)).collect();
    Servers::Sentinel { nodes, service: service.into() }
}

fn unix(path: &str) -> Servers {
    Servers::Direct(RedisAddress::Unix(path.into()))
}

#[test]
fn a_url_is_read_and_shown_without_its_password() {
    let cases = [
        ("redis://h", tcp("h", 6379), None, None, 0, "redis://h:6379/0"),
        ("redis://h/", tcp("h", 6379), None, None, 0, "redis://h:6379/0"),
        (
            "redis://redis-1.a_b.example:1/15",
            tcp("redis-1.a_b.example", 1),
            None,
            None,
            15,
            "redis://redis-1.a_b.example:1/15",
        ),
        (
            "redis://127.0.0.1:65535/2147483647",
            tcp("127.0.0.1", 65_535),
            None,
            None,
            2_147_483_647,
            "redis://127.0.0.1:65535/2147483647",
        ),
        ("rediss://[::1]", tcp("::1", 6379), None, None, 0, "rediss://[::1]:6379/0"),
        ("redis://[fd00::2]:7/3", tcp("fd00::2", 7), None, None, 3, "redis://[fd00::2]:7/3"),
        ("redis://:p@h", tcp("h", 6379), None, Some("p"), 0, "redis://:***@h:6379/0"),
        ("rediss://u:p@h:1/2", tcp("h", 1), Some("u"), Some("p"), 2, "rediss://u:***@h:1/2"),
        // A user that needs no password.
        ("redis://u:@h", tcp("h", 6379), Some("u"), Some(""), 0, "redis://u:***@h:6379/0"),
        ("redis://:@h", tcp("h", 6379), None, None, 0, "redis://h:6379/0"),
        ("redis://:a:b@c+é@h", tcp("h", 6379), None, Some("a:b@c+é"), 0, "redis://:***@h:6379/0"),
        ("redis://%40%2f:%25%3F%C3%A9@h", tcp("h", 6379), Some("@/"), Some("%?é"), 0, "redis://%40%2F:***@h:6379/0"),
        ("redis://:%2A**@h", tcp("h", 6379), None, Some("***"), 0, "redis://:***@h:6379/0"),
        ("redis-sentinel://a/s", sentinel(&[("a", 26_379)], "s"), None, None, 0, "redis-sentinel://a:26379/s/0"),
        (
            "rediss-sentinel://u:p,q@a,[::1]:7,127.0.0.1/my-master_1.x/9",
            sentinel(&[("a", 26_379), ("::1", 7), ("127.0.0.1", 26_379)], "my-master_1.x"),
            Some("u"),
            Some("p,q"),
            9,
            "rediss-sentinel://u:***@a:26379,[::1]:7,127.0.0.1:26379/my-master_1.x/9",
        ),
        ("unix:///run/r.sock", unix("/run/r.sock"), None, None, 0, "redis+unix:///run/r.sock?db=0"),
        ("redis+unix:///a%20%3f/@:b?", unix("/a ?/@:b"), None, None, 0, "redis+unix:///a%20%3F/%40%3Ab?db=0"),
        ("redis+unix:///s?pass=p%26&db=4", unix("/s"), None, Some("p&"), 4, "redis+unix:///s?db=4&pass=***"),
        (
            "redis+unix:///s?user=u&pass=p=@/",
            unix("/s"),
            Some("u"),
            Some("p=@/"),
            0,
            "redis+unix:///s?db=0&user=u&pass=***",
        ),
    ];
    for (text, servers, username, password, database, shown) in cases {
        let tls = text.starts_with("rediss");
        let expected =
            RedisUrl { servers, tls, username: username.map(Into::into), password: password.map(Into::into), database };
        let url = parsed(text).unwrap();
        // Compared by field: how it is shown leaves something out.
        assert!(url == expected, "{text}: {url}, with {:?} for {:?}", url.username, url.password);
        assert_eq!(url.to_string(), shown);
        assert_eq!(format!("{url:?}"), format!("RedisUrl({url})"));
    }
}

#[test]
fn a_wrong_url_is_refused_for_what_is_wrong_with_it() {
    let cases = [
        ("", Scheme),
        ("redis:", Scheme),
        ("redis:h", Scheme),
        ("REDIS://h", Scheme),
        ("redis+ssl://h", Scheme),
        ("http://h", Scheme),
        ("redis://", Host),
        ("redis:///1", Host),
        ("redis://:6379", Host),
        ("redis://u:p@", Host),
        ("redis://::1", Host),
        ("redis://[::1", Host),
        ("redis://[h]", Host),
        ("redis://[::1]x", Host),
        ("redis://h h", Host),
        (" redis://h", Scheme),
        ("redis://h:", Port),
        ("redis://h:0", Port),
        ("redis://h:+1", Port),
        ("redis://h:65536", Port),
        ("redis://h:x", Port),
        ("redis://[::1]:", Port),
        ("redis://h/x", Database),
        ("redis://h/-1", Database),
        ("redis://h/2147483648", Database),
        ("redis://h/1/2", Database),
        ("redis://h/1 ", Database),
        ("redis://h?db=1", Trailing),
        ("rediss://h/0#insecure", Trailing),
        ("redis://secret@h", Colon),
        ("redis://:a/b@h", Unescaped),
        ("redis://:a?b@h", Unescaped),
        ("redis://u:a#b@h", Unescaped),
        ("redis://:a@b/c@h", Unescaped),
        ("redis://:a%@h", Escape),
        ("redis://:a%4@h", Escape),
        ("redis://:%+4@h", Escape),
        ("redis://:%ff@h", Escape),
        ("redis://%zz:p@h", Escape),
        ("redis://:***@h", Masked),
        ("redis+unix:///s?pass=***", Masked),
        ("redis://a,b", Hosts),
        ("redis-sentinel://a", Service),
        ("redis-sentinel://a/", Service),
        ("redis-sentinel://a/my master", Service),
        ("redis-sentinel://a/s/x", Database),
        ("redis-sentinel://a,/s", Host),
        ("redis-sentinel:///s", Host),
        ("redis-sentinel://a:0/s", Port),
        ("redis-sentinel://a/s?x", Trailing),
        ("unix://s", Socket),
        ("redis+unix://", Socket),
        ("redis+unix:///", Socket),
        ("redis+unix://:p@/s", Socket),
        ("redis+unix:///s%00", Socket),
        ("redis+unix:///s#x", Unescaped),
        ("redis+unix:///s?db=x", Database),
        ("redis+unix:///s?password=p", Options),
        ("redis+unix:///s?pass", Options),
        ("redis+unix:///s?db=1&db=1", Options),
        ("redis+unix:///s?user=u", Options),
        ("redis+unix:///s?pass=%", Escape),
    ];
    for (text, expected) in cases {
        assert_eq!(parsed(text).map_err(|error| (text, error)), Err((text, expected)));
    }
}

proptest! {
    #[test]
    fn nothing_panics_and_what_is_shown_without_a_password_means_the_same(
        scheme in "redis|rediss|redis-sentinel|rediss-sentinel|redis\\+unix|unix|\\PC{0,5}",
        rest in "([a-z0-9:@/%?#=&,.\\[\\]*]|user=|pass=|db=|%4|\\PC){0,20}|[a-z:]{0,4}@?/?[a-z.]{1,9}(:[0-9]{1,5})?(/[a-z0-9]{1,3}){0,2}",
    ) {
        let url = parsed(&format!("{scheme}://{rest}"));
        if let Ok(url) = url {
            prop_assert!(url.username.is_none() || url.password.is_some());
            let shown = url.to_string();
            match url.password {
                None => prop_assert!(parsed(&shown) == Ok(url)),
                Some(_) => prop_assert_eq!(parsed(&shown), Err(Masked)),
            }
        }
    }

    #[test]
    fn any_password_can_be_written_and_is_never_shown(password in "\\PC{8,30}|[ -~]{8,30}", user in "\\PC{0,3}") {
        let written = utf8_percent_encode(&password, ENCODED).to_string();
        let who = utf8_percent_encode(&user, ENCODED).to_string();
        for text in [
            format!("redis://{who}:{written}@h"),
            format!("rediss-sentinel://{who}:{written}@h/s"),
            format!("unix:///s?user={who}&pass={written}"),
        ] {
            let url = parsed(&text).unwrap();
            prop_assert_eq!(url.password.as_deref(), Some(&*password));
            prop_assert_eq!(url.username.as_deref().unwrap_or_default(), &*user);
            let shown = format!("{url} {url:?} {url:#?}");
            prop_assert!(!shown.contains(&password) && !shown.contains(&written), "{}", shown);
        }
        // As somebody writes it who does not know better: right or wrong, it is not told.
        let told = match parsed(&format!("redis://:{password}@h")) {
            Ok(url) => format!("{url} {url:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!told.contains(&password), "{}", told);
    }
}
