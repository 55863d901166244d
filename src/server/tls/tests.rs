//! Certificates and keys as operators have them, right and wrong.

use std::fs;

use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::limits::{AUTHORITY_DAYS, CERTIFICATE_DAYS};

const DAY: i64 = 86_400_000;

/// The beginning of 2027.
fn now() -> Timestamp {
    Timestamp::from_millis(1_798_761_600_000)
}

fn days_later(days: i64) -> Timestamp {
    Timestamp::from_millis(now().as_millis() + days * DAY)
}

fn listen() -> IpAddr {
    IpAddr::from([127, 0, 0, 1])
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn self_signed(&self) -> Result<Tls, String> {
        let config = TlsConfig { mode: TlsMode::SelfSigned, names: vec![] };
        let checked = Tls::check(&config, self.0.path(), listen(), now()).map_err(|errors| errors.to_string());
        let made = Tls::new(&config, self.0.path(), listen(), now()).map_err(|error| error.to_string());
        assert_eq!(checked.as_ref().err(), made.as_ref().err(), "looking finds what starting finds");
        made.map(|tls| tls.expect("it is on"))
    }

    fn files(&self) -> TlsConfig {
        TlsConfig { mode: TlsMode::Files { cert: self.path("cert.pem"), key: self.path("key.pem") }, names: vec![] }
    }

    /// What is warned of, or wrong, with the folder in the texts left out.
    fn check_files(&self, now: Timestamp) -> Result<Vec<String>, String> {
        let checked = Tls::check(&self.files(), self.0.path(), listen(), now);
        let made = Tls::new(&self.files(), self.0.path(), listen(), now);
        assert_eq!(checked.is_ok(), made.is_ok(), "looking finds what starting finds");
        let short = |text: String| text.replace(&format!("{}/", self.0.path().display()), "");
        checked.map(|warnings| warnings.into_iter().map(short).collect()).map_err(|errors| short(errors.to_string()))
    }

    /// Everything in the folder of the authority.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.path("tls")).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        all.sort();
        all
    }
}

#[test]
fn half_an_authority_is_refused_and_the_other_half_stays() {
    for (missing, left) in [("tls/ca.pem", "tls/ca-key.pem"), ("tls/ca-key.pem", "tls/ca.pem")] {
        let folder = Folder::new();
        folder.self_signed().unwrap();
        fs::remove_file(folder.path(missing)).unwrap();
        let before = folder.contents();
        let told = folder.self_signed().unwrap_err();
        assert!(told.contains(&format!("{missing}): it is missing, but")) && told.contains(left), "{told}");
        assert_eq!(folder.contents(), before, "nothing is written over");
    }
}

#[test]
fn an_authority_that_does_not_fit_its_key_is_refused_and_stays() {
    let (one, other) = (Folder::new(), Folder::new());
    one.self_signed().unwrap();
    other.self_signed().unwrap();
    fs::copy(other.path("tls/ca-key.pem"), one.path("tls/ca-key.pem")).unwrap();
    let before = one.contents();
    let told = one.self_signed().unwrap_err();
    assert!(told.contains("ca-key.pem): it is the key of another certificate than that in"), "{told}");
    one.put("tls/ca-key.pem", "");
    one.put("tls/ca.pem", "");
    let told = one.self_signed().unwrap_err();
    assert!(told.contains("no certificate in it") && told.contains("no private key in it"), "both are told: {told}");
    fs::copy(other.path("tls/server.pem"), one.path("tls/ca.pem")).unwrap();
    fs::copy(other.path("tls/server-key.pem"), one.path("tls/ca-key.pem")).unwrap();
    assert!(one.self_signed().unwrap_err().contains("the certificate of no authority"));
    assert_eq!(one.contents().len(), before.len());
    fs::remove_file(one.path("tls/ca-key.pem")).unwrap();
    std::os::unix::fs::symlink("/nowhere/ca-key.pem", one.path("tls/ca-key.pem")).unwrap();
    assert!(one.self_signed().unwrap_err().contains("it cannot be read: No such file"));
    assert!(one.path("tls/ca-key.pem").is_symlink(), "a link that leads nowhere is not replaced");
}

#[test]
fn only_the_first_start_makes_an_authority() {
    let folder = Folder::new();
    assert!(folder.self_signed().unwrap().ca_is_new);
    let ca = fs::read(folder.path("tls/ca.pem")).unwrap();
    folder.put("tls/ca.pem", [b"\xef\xbb\xbf", &ca[..]].concat());
    let tls = folder.self_signed().expect("a byte order mark is passed over");
    assert!(!tls.ca_is_new);
}

#[test]
fn a_server_certificate_is_good_for_less_than_825_days_the_day_before_included() {
    let folder = Folder::new();
    let tls = folder.self_signed().unwrap();
    let of = |name: &str| {
        let chain = pem::certificates(&NamedFile::in_data_dir(folder.0.path(), name)).unwrap();
        Validity::of(&chain[0]).unwrap()
    };
    let (server, authority) = (of("tls/server.pem"), of("tls/ca.pem"));
    assert_eq!(server.start, days_later(-1));
    assert_eq!(server.end.as_millis() - server.start.as_millis(), CERTIFICATE_DAYS * DAY);
    assert_eq!(authority.end, days_later(AUTHORITY_DAYS - 1));
    assert_eq!(tls.expires, server.end);
}

#[test]
fn an_authority_that_is_not_valid_now_is_warned_of() {
    let folder = Folder::new();
    let config = TlsConfig { mode: TlsMode::SelfSigned, names: vec![] };
    let check = |now| Tls::check(&config, folder.0.path(), listen(), now).unwrap().join("\n");
    let epoch = Timestamp::from_millis(0);
    assert!(check(epoch).contains("the clock of this machine stands at 1970-01-01T00:00:00.000Z"));
    Tls::new(&config, folder.0.path(), listen(), epoch).unwrap();
    let told = check(now());
    assert!(told.contains("tls/ca.pem): it expired at 1979-12-") && told.contains("tell every agent"), "{told}");

    let folder = Folder::new();
    folder.self_signed().unwrap();
    let told = Tls::check(&config, folder.0.path(), listen(), days_later(-2)).unwrap().join("\n");
    assert!(told.contains("it is not valid before 2026-12-31T00:00:00.000Z"), "{told}");
    let fine = Tls::check(&config, folder.0.path(), listen(), now()).unwrap();
    assert!(fine.iter().all(|warning| warning.contains("the name of this machine")), "{fine:?}");
}

/// An authority, what it signed, and the key of that.
fn chain() -> (String, String, String) {
    let moment = |at: Timestamp| time::OffsetDateTime::from_unix_timestamp(at.as_millis() / 1_000).unwrap();
    let mut params = CertificateParams::new(vec!["root".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (moment(days_later(-10)), moment(days_later(10)));
    let root_key = KeyPair::generate().unwrap();
    let root = params.self_signed(&root_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec!["guard.example".to_owned()]).unwrap();
    (leaf.not_before, leaf.not_after) = (moment(days_later(-1)), moment(days_later(1)));
    let leaf = leaf.signed_by(&key, &Issuer::new(params, &root_key)).unwrap();
    (root.pem(), leaf.pem(), key.serialize_pem())
}

#[test]
fn files_that_cannot_be_used_are_reported_with_setting_file_and_cause() {
    let (root, leaf, key) = chain();
    let other = KeyPair::generate().unwrap().serialize_pem();
    let cases = [
        (&leaf, &other, "tls.key_file (key.pem): it is the key of another certificate than that in "),
        (&format!("{root}{leaf}"), &key, "tls.cert_file (cert.pem): the server's own certificate must come first"),
        (
            &key,
            &leaf,
            "tls.cert_file (cert.pem): there is no certificate in it, but PRIVATE KEY\ntls.key_file (key.pem): \
                       there is no private key in it, but CERTIFICATE",
        ),
        (
            &leaf,
            &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
            "tls.key_file (key.pem): the private key is encrypted",
        ),
    ];
    for (cert, key, expected) in cases {
        let folder = Folder::new();
        folder.put("cert.pem", cert);
        folder.put("key.pem", key);
        let told = folder.check_files(now()).unwrap_err();
        assert!(told.starts_with(expected), "{told}");
        assert!(!told.contains("KeyMismatch"), "{told}");
    }
    let told = Folder::new().check_files(now()).unwrap_err();
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.starts_with("tls.cert_file (cert.pem): it cannot be read: No such file"), "{told}");
}

#[test]
fn certificates_from_files_are_taken_in_their_order_and_warned_of_when_not_valid() {
    let (root, leaf, key) = chain();
    let folder = Folder::new();
    folder.put("cert.pem", format!("\u{feff}{leaf}{root}"));
    folder.put("key.pem", format!("\u{feff}{key}"));
    assert_eq!(folder.check_files(now()), Ok(vec![]));
    let tls = Tls::new(&folder.files(), folder.0.path(), listen(), now()).unwrap().expect("it is on");
    assert_eq!(tls.expires, days_later(1), "the first to expire");
    let told = folder.check_files(days_later(2)).unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("tls.cert_file (cert.pem): certificate 1: it expired at 2027-01-02"), "{told:?}");
    let told = folder.check_files(days_later(-20)).unwrap().join("\n");
    assert!(told.contains("certificate 1: it is not valid before") && told.contains("certificate 2:"), "{told}");
}

#[test]
fn a_certificate_that_is_about_to_expire_is_warned_of_once_a_day() {
    let mut watch = ExpiryWatch::new(days_later(100));
    let mut days_left = |hours: i64| watch.days_left(Timestamp::from_millis(now().as_millis() + hours * 3_600_000));
    for (hour, expected) in [
        (0, None),
        (70 * 24 - 1, None),
        (70 * 24, Some(30)),
        (70 * 24 + 1, None),
        (71 * 24 - 1, None),
        (71 * 24, Some(29)),
        (99 * 24 + 1, Some(0)),
        (100 * 24, None),
        (200 * 24, Some(0)),
    ] {
        assert_eq!(days_left(hour), expected, "after {hour} hours");
    }
}

#[test]
fn a_machine_whose_name_no_certificate_can_hold_is_left_out_and_warned_of() {
    for (hostname, usable) in [("web-1", true), ("web_1", true), ("web.example", true), ("", true)] {
        let (names, warning) = subject_names(&[], listen(), hostname);
        assert_eq!(
            (names.contains(&hostname.to_owned()), warning),
            (usable && !hostname.is_empty(), None),
            "{hostname}"
        );
    }
    for hostname in ["büro", "(none)", "two words", "-", "12345"] {
        let (names, warning) = subject_names(&["büro.example".replace('ü', "ue")], listen(), hostname);
        assert_eq!(names, ["127.0.0.1", "::1", "buero.example", "localhost"]);
        assert!(warning.is_some_and(|warning| warning.contains(hostname) && warning.contains("tls.names")));
        CertificateParams::new(names).unwrap();
    }
}

#[test]
fn the_cipher_is_our_choice_and_the_first_is_one_whose_hash_processors_have() {
    let server = Folder::new().self_signed().unwrap().server;
    assert!(server.ignore_client_order);
    let suites: Vec<_> =
        server.crypto_provider().cipher_suites.iter().map(rustls::SupportedCipherSuite::suite).collect();
    assert_eq!(suites[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(suites.len(), ring::default_provider().cipher_suites.len(), "none is left out");
}
