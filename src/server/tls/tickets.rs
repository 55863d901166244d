//! Session tickets: with one, a client that comes again resumes its session, without a signature and without memory here.
//!
//! The keys are kept beside the certificates, so that clients resume after a restart too. A new one is made every day, and
//! tickets of the one before are still taken. Who has the keys could read recorded sessions of TLS 1.2; so they are as
//! private as the certificate's key, and live no longer than that takes.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use parking_lot::Mutex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::server::ProducesTickets;

use crate::{clock, fleet::Timestamp, limits::TICKET_KEY_MS, process::private_file};

const KEY_BYTES: usize = 32;
/// Bytes of a ticket that say which key it is of.
const NAME_BYTES: usize = 8;

/// The keys of session tickets.
pub struct Tickets {
    /// Where they are kept; none if they end with the process.
    file: Option<PathBuf>,
    now: fn() -> Timestamp,
    keys: Mutex<Keys>,
    /// Whether the file has them.
    are_kept: AtomicBool,
    /// Whether it was logged that it does not.
    is_warned: AtomicBool,
}

#[derive(Clone)]
struct Keys {
    current: Arc<Key>,
    previous: Option<Arc<Key>>,
}

impl Keys {
    /// The newest first.
    fn all(&self) -> impl Iterator<Item = &Key> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().map(|key| &**key)
    }
}

struct Key {
    /// Names it in tickets, to those who cannot derive it.
    name: [u8; NAME_BYTES],
    made: Timestamp,
    secret: [u8; KEY_BYTES],
    cipher: LessSafeKey,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Tickets {
    /// The keys in this folder, or new ones where there are none that are still good.
    pub(super) fn open(folder: Option<&Path>) -> Arc<Self> {
        Self::at(folder, clock::system_time)
    }

    fn at(folder: Option<&Path>, now: fn() -> Timestamp) -> Arc<Self> {
        let file = folder.map(|folder| folder.join("ticket-keys"));
        let kept = file.as_deref().and_then(|file| read(file, now()));
        let are_kept = AtomicBool::new(kept.is_some());
        let keys = kept.unwrap_or_else(|| Keys { current: Key::new(now()), previous: None });
        let tickets = Self { file, now, keys: Mutex::new(keys), are_kept, is_warned: AtomicBool::default() };
        tickets.rotate();
        Arc::new(tickets)
    }

    /// Makes a new key if the current one has had its day, and keeps what could not be kept before. To be called now and
    /// then, where a write to the disk holds nobody up.
    pub fn rotate(&self) {
        let now = (self.now)();
        let current = self.keys().current;
        if current.age_ms(now) >= TICKET_KEY_MS {
            let keys = Keys { current: Key::new(now), previous: Some(current) };
            *self.keys.lock() = keys;
            self.are_kept.store(false, Relaxed);
        }
        if !self.are_kept.load(Relaxed) {
            self.keep(&self.keys());
        }
    }

    fn keys(&self) -> Keys {
        self.keys.lock().clone()
    }

    /// Without a place for them, clients have only to shake hands once more after a restart.
    fn keep(&self, keys: &Keys) {
        let Some(file) = &self.file else { return };
        let folder = file.parent().unwrap_or(Path::new("."));
        let lines: String =
            keys.all().map(|key| format!("{} {}\n", key.made.as_millis(), BASE64.encode(key.secret))).collect();
        match private_file::create_folder(folder).and_then(|()| private_file::write(file, &lines)) {
            Ok(()) => {
                self.are_kept.store(true, Relaxed);
                self.is_warned.store(false, Relaxed);
            }
            // It is tried again every second.
            Err(error) if !self.is_warned.swap(true, Relaxed) => tracing::warn!(
                file = %file.display(),
                %error,
                "the keys of TLS session tickets cannot be kept: after a restart clients need a full handshake each"
            ),
            Err(_) => {}
        }
    }
}

fn read(file: &Path, now: Timestamp) -> Option<Keys> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut keys = text.lines().filter_map(Key::parse).filter(|key| key.is_taken_at(now)).map(Arc::new);
    Some(Keys { current: keys.next()?, previous: keys.next() })
}

impl Key {
    fn new(made: Timestamp) -> Arc<Self> {
        let mut secret = [0; KEY_BYTES];
        getrandom::fill(&mut secret).expect("the operating system has random numbers");
        Arc::new(Self::of(made, secret))
    }

    fn of(made: Timestamp, secret: [u8; KEY_BYTES]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, &[b"ticket key", &secret[..]].concat());
        let name = digest.as_ref()[..NAME_BYTES].try_into().expect("a digest is longer than a name");
        let cipher = UnboundKey::new(&AES_256_GCM, &secret).expect("the key has the cipher's length");
        Self { name, made, secret, cipher: LessSafeKey::new(cipher) }
    }

    fn parse(line: &str) -> Option<Self> {
        let (made, secret) = line.split_once(' ')?;
        let secret = BASE64.decode(secret).ok()?.try_into().ok()?;
        Some(Self::of(Timestamp::from_millis(made.parse().ok()?), secret))
    }

    /// How old it is, whichever way the clock was set.
    fn age_ms(&self, now: Timestamp) -> u64 {
        now.as_millis().abs_diff(self.made.as_millis())
    }

    fn is_taken_at(&self, now: Timestamp) -> bool {
        self.age_ms(now) < 2 * TICKET_KEY_MS
    }

    fn seal(&self, session: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut sealed = session.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.cipher.seal_in_place_append_tag(unique, Aad::from(self.name), &mut sealed).ok()?;
        Some([&self.name[..], &nonce, &sealed].concat())
    }

    fn open(&self, nonce: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut session = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = self.cipher.open_in_place(nonce, Aad::from(self.name), &mut session).ok()?.len();
        session.truncate(length);
        Some(session)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        (TICKET_KEY_MS / 1_000) as u32
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.keys().current.seal(session)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys();
        let key = keys.all().find(|key| key.name == name)?;
        key.is_taken_at((self.now)()).then(|| key.open(nonce, sealed))?
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, os::unix::fs::PermissionsExt as _};

    use super::*;

    const DAY_MS: i64 = TICKET_KEY_MS as i64;

    thread_local! {
        static NOW: Cell<i64> = const { Cell::new(50 * DAY_MS) };
    }

    fn now() -> Timestamp {
        Timestamp::from_millis(NOW.get())
    }

    fn pass(ms: i64) {
        NOW.set(NOW.get() + ms);
    }

    #[test]
    fn a_ticket_is_good_for_a_day_at_least_and_two_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let tickets = Tickets::at(Some(folder.path()), now);
        let ticket = tickets.encrypt(b"session").unwrap();
        assert_eq!(tickets.decrypt(&ticket).unwrap(), b"session");
        pass(DAY_MS);
        tickets.rotate();
        let next = tickets.encrypt(b"session").unwrap();
        assert_ne!(ticket[..NAME_BYTES], next[..NAME_BYTES], "by another key");
        assert_eq!(tickets.decrypt(&ticket).unwrap(), b"session");
        pass(DAY_MS);
        assert_eq!(tickets.decrypt(&ticket), None);
        tickets.rotate();
        assert_eq!(tickets.decrypt(&next).unwrap(), b"session");
    }

    #[test]
    fn tickets_outlive_a_restart_and_their_keys_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let earlier = Tickets::at(Some(folder.path()), now);
        let old = earlier.encrypt(b"a").unwrap();
        pass(DAY_MS);
        earlier.rotate();
        let new = earlier.encrypt(b"b").unwrap();
        drop(earlier);
        let tickets = Tickets::at(Some(folder.path()), now);
        assert_eq!((tickets.decrypt(&old), tickets.decrypt(&new)), (Some(b"a".to_vec()), Some(b"b".to_vec())));
        let mode = std::fs::metadata(folder.path().join("ticket-keys")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        pass(2 * DAY_MS);
        assert_eq!(Tickets::at(Some(folder.path()), now).decrypt(&new), None, "after a long rest");
    }

    #[test]
    fn keys_that_could_not_be_kept_are_kept_as_soon_as_they_can_be() {
        let folder = tempfile::tempdir().unwrap();
        // Whoever runs this may be one whom no permissions hold back: a file stands where the folder should be.
        let (inside, ticket) = (folder.path().join("tls"), |tickets: &Tickets| tickets.encrypt(b"a").unwrap());
        std::fs::write(&inside, "").unwrap();
        let tickets = Tickets::at(Some(&inside), now);
        std::fs::remove_file(&inside).unwrap();
        tickets.rotate();
        assert_eq!(Tickets::at(Some(&inside), now).decrypt(&ticket(&tickets)).unwrap(), b"a");
        std::fs::rename(&inside, folder.path().join("away")).unwrap();
        std::fs::write(&inside, "").unwrap();
        pass(DAY_MS);
        tickets.rotate();
        std::fs::remove_file(&inside).unwrap();
        tickets.rotate();
        assert_eq!(Tickets::at(Some(&inside), now).decrypt(&ticket(&tickets)).unwrap(), b"a");
    }

    #[test]
    fn what_is_no_ticket_of_ours_is_none() {
        let tickets = Tickets::at(None, now);
        let mut ticket = tickets.encrypt(b"session").unwrap();
        for length in 0..ticket.len() {
            assert_eq!(tickets.decrypt(&ticket[..length]), None);
        }
        *ticket.last_mut().unwrap() ^= 1;
        assert_eq!(tickets.decrypt(&ticket), None);
        assert_eq!(Tickets::at(None, now).decrypt(&tickets.encrypt(b"session").unwrap()), None);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ticket-keys");
        for wrong in ["", "x", "5 AAAA\n", "\u{0}\n1 2 3"] {
            std::fs::write(&file, wrong).unwrap();
            let ticket = Tickets::at(Some(folder.path()), now).encrypt(b"a").unwrap();
            assert_eq!(Tickets::at(Some(folder.path()), now).decrypt(&ticket).unwrap(), b"a");
        }
    }
}
