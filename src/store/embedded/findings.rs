//! What was found amiss in a store, and what became of it.

use std::{fmt::Display, path::Path};

use parking_lot::Mutex;

/// What is reported, and can be reported again.
#[derive(Debug)]
pub(super) struct Findings {
    /// The folder, and its name for people: what is opened may be a copy.
    folder: String,
    name: String,
    reported: Mutex<Vec<String>>,
}

impl Findings {
    /// None yet, of the store in `folder` that people know as `name`.
    pub(super) fn of(folder: &Path, name: &Path) -> Self {
        let [folder, name] = [folder, name].map(|path| path.to_string_lossy().into_owned());
        Self { folder, name, reported: Mutex::default() }
    }

    /// Reports something that is lost, or was set aside.
    pub(super) fn lost(&self, what: impl Display) {
        let what = self.named(&what);
        tracing::error!("{what}");
        self.note(what);
    }

    /// Reports something that is not as it should be, though nothing that was acknowledged is lost.
    pub(super) fn odd(&self, what: impl Display) {
        let what = self.named(&what);
        tracing::warn!("{what}");
        self.note(what);
    }

    /// All that was reported.
    pub(super) fn all(&self) -> Vec<String> {
        self.reported.lock().clone()
    }

    /// The text, with the names that people know.
    pub(super) fn named(&self, text: &dyn Display) -> String {
        text.to_string().replace(&self.folder, &self.name)
    }

    fn note(&self, what: String) {
        self.reported.lock().push(what);
    }
}
