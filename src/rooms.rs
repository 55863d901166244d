//! Which room may use which: the map in `lib.rs`, held against the sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::visit::{self, Visit};

/// Each room, and the rooms that it uses. None uses one that stands above it.
const ROOMS: &[(&str, &[&str])] = &[
    ("cli", &["api", "config", "limits", "process", "server", "store_tools"]),
    (
        "server",
        &[
            "api", "clock", "config", "engine", "events", "fleet", "front", "limits", "metrics", "process", "store",
            "threats",
        ],
    ),
    ("store_tools", &["config", "fleet", "limits", "policy", "process", "store", "threats"]),
    (
        "api",
        &["clock", "config", "engine", "events", "fleet", "front", "limits", "metrics", "policy", "store", "threats"],
    ),
    ("front", &["clock", "limits", "process"]),
    ("engine", &["clock", "events", "fleet", "limits", "metrics", "policy", "process", "store", "threats"]),
    ("store", &["clock", "config", "fleet", "limits", "metrics", "policy", "process", "threats"]),
    ("events", &["clock", "fleet", "limits", "metrics", "threats"]),
    ("metrics", &["fleet", "limits", "process", "threats"]),
    ("clock", &["fleet", "limits"]),
    ("config", &["fleet", "limits", "process"]),
    ("policy", &["fleet", "limits"]),
    ("threats", &["fleet", "limits"]),
    ("fleet", &["limits"]),
    ("process", &["limits"]),
    ("limits", &[]),
];

/// Files of a room that use one another in a circle; what a file uses of the module that it is part of is not counted. A
/// circle that is undone is taken out here.
const CIRCLES: &[&[&str]] = &[
    // The document is made from the table of routes, and is served by one of them.
    &["api::openapi", "api::routes"],
    &["config::key", "config::keys", "config::rules", "config::texts", "config::value"],
    // The table of addresses names the actor; the actor is one of its shard; the shard keeps the table.
    &["engine::agent", "engine::delivery::routing", "engine::shard"],
    &["events::bus", "events::subscriber"],
    &["store::embedded::changing", "store::embedded::registry", "store::embedded::threats"],
    &["store::embedded::heartbeat_log", "store::embedded::latest"],
];

#[test]
fn every_room_uses_only_what_the_map_allows() {
    let sources = Sources::read();
    let mut uses = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (from, to) in sources.uses() {
        let (from, to) = (room(from), room(to));
        if from != to && !from.is_empty() {
            uses.entry(from).or_default().insert(to);
        }
    }
    let rooms: Vec<_> = ROOMS.iter().map(|(room, _)| *room).collect();
    for (place, (room, allowed)) in ROOMS.iter().enumerate() {
        assert!(allowed.iter().all(|used| rooms[place..].contains(used)), "{room} uses a room that stands above it");
        let used: Vec<_> = uses.remove(room).unwrap_or_default().into_iter().collect();
        assert_eq!(used, *allowed, "what {room} uses, and what it is to use by the table in rooms.rs");
    }
    assert_eq!(uses.into_keys().collect::<Vec<_>>(), Vec::<&str>::new(), "rooms that are not in the table");
}

#[test]
fn the_files_of_a_room_use_one_another_in_no_other_circle_than_those_listed() {
    let sources = Sources::read();
    let mut uses = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (from, to) in sources.uses().filter(|(from, to)| from != to && room(from) == room(to) && !is_part_of(from, to))
    {
        uses.entry(from).or_default().insert(to);
    }
    let mut reached: BTreeMap<_, _> = uses.keys().map(|file| (*file, uses[file].clone())).collect();
    loop {
        let before: usize = reached.values().map(BTreeSet::len).sum();
        let further = reached.clone();
        for files in reached.values_mut() {
            let beyond: Vec<_> = files.iter().filter_map(|file| further.get(file)).flatten().copied().collect();
            files.extend(beyond);
        }
        if reached.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let in_circle = |a: &str, b: &str| reached.get(a).is_some_and(|to| to.contains(b));
    let circles: BTreeSet<Vec<_>> = reached
        .keys()
        .filter(|file| in_circle(file, file))
        .map(|file| reached[file].iter().copied().filter(|other| in_circle(other, file)).collect())
        .collect();
    assert_eq!(circles.into_iter().collect::<Vec<_>>(), CIRCLES, "circles, and the list of them in rooms.rs");
}

/// Files with a length of time that is no bound: how often a debug build looks whether a test wants a panic.
const OTHER_TIMES: &[&str] = &["process::supervision"];

#[test]
fn a_length_of_time_stands_in_limits() {
    let sources = Sources::read();
    let has_time = |module: &Module| {
        let mut calls = module.code.split("Duration::from_").skip(1).filter_map(|rest| rest.split_once('('));
        calls.any(|(_, argument)| argument.starts_with(|c: char| c.is_ascii_digit()))
    };
    let found: Vec<_> = sources.modules.iter().filter(|(_, module)| has_time(module)).map(|(path, _)| path).collect();
    assert_eq!(found, OTHER_TIMES, "files that say how long something takes");
}

/// The first part of a module's path.
fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

/// Whether a module stands below another.
fn is_part_of(module: &str, parent: &str) -> bool {
    module.strip_prefix(parent).is_some_and(|rest| rest.starts_with("::"))
}

/// The crate's modules, without those of tests.
struct Sources {
    /// By path, as in `engine::shard`; that of `lib.rs` is empty.
    modules: BTreeMap<String, Module>,
}

#[derive(Default)]
struct Module {
    /// Its text, up to its tests.
    code: String,
    /// Paths from the root of the crate.
    uses: Vec<Vec<String>>,
    /// What it re-exports from other modules, by the name that it has here.
    exports: BTreeMap<String, Vec<String>>,
    /// What it imports privately, which the modules below it may name as its own.
    imports: BTreeMap<String, Vec<String>>,
}

impl Sources {
    fn read() -> Self {
        let mut sources = Self { modules: BTreeMap::new() };
        sources.read_module(&[], &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
        sources
    }

    fn read_module(&mut self, path: &[String], file: &Path) {
        let text = fs::read_to_string(file).unwrap();
        let parsed = syn::parse_file(&text).unwrap();
        let children = parsed.items.iter().filter_map(|item| match item {
            syn::Item::Mod(child) if child.content.is_none() && !is_for_tests(&child.attrs) => {
                Some(child.ident.to_string())
            }
            _ => None,
        });
        let children: BTreeSet<_> = children.collect();
        let mut reader = Reader { here: path, children: &children, module: Module::default() };
        reader.module.code = text.split("\nmod tests {").next().unwrap_or_default().into();
        reader.visit_file(&parsed);
        self.modules.insert(path.join("::"), reader.module);
        for child in children {
            let path = [path, &[child]].concat();
            let name: PathBuf = path.iter().collect();
            let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
            let files = [src.with_extension("rs"), src.join("mod.rs")];
            self.read_module(&path, files.iter().find(|file| file.exists()).unwrap());
        }
    }

    /// Which module uses which.
    fn uses(&self) -> impl Iterator<Item = (&str, &str)> {
        let uses = self.modules.iter().flat_map(|(from, module)| module.uses.iter().map(move |used| (&**from, used)));
        uses.filter_map(|(from, used)| Some((from, self.home(from, used, 0)?)))
    }

    /// The module that defines what has this path in the module `from`: re-exports are followed, and so are the private
    /// imports of modules that `from` is part of.
    fn home(&self, from: &str, path: &[String], followed: usize) -> Option<&str> {
        let (length, (module, found)) =
            (1..=path.len()).rev().find_map(|n| Some((n, self.modules.get_key_value(&path[..n].join("::"))?)))?;
        let private = is_part_of(from, module).then_some(&found.imports);
        let sources = [Some(&found.exports), private].into_iter().flatten();
        match path.get(length).and_then(|name| sources.filter_map(|names| names.get(name)).next()) {
            Some(source) if followed < 5 => self.home(from, &[source, &path[length + 1..]].concat(), followed + 1),
            Some(_) | None => Some(module),
        }
    }
}

struct Reader<'a> {
    here: &'a [String],
    children: &'a BTreeSet<String>,
    module: Module,
}

impl Reader<'_> {
    /// The path from the root of the crate; none for what belongs to another crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        match &**first {
            "crate" => Some(rest.to_vec()),
            "self" => Some([self.here, rest].concat()),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                Some([&self.here[..self.here.len().checked_sub(ups)?], &path[ups..]].concat())
            }
            child if self.children.contains(child) => Some([self.here, path].concat()),
            _ => None,
        }
    }

    fn read_use(&mut self, tree: &syn::UseTree, before: &[String], is_public: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.read_use(&path.tree, &with(&path.ident), is_public),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.read_use(tree, before, is_public)),
            syn::UseTree::Glob(_) => self.note(before),
            syn::UseTree::Name(name) if name.ident == "self" => {
                let name = before.last().cloned().unwrap_or_default();
                self.note_import(before.to_vec(), name, is_public);
            }
            syn::UseTree::Name(name) => self.note_import(with(&name.ident), name.ident.to_string(), is_public),
            syn::UseTree::Rename(name) => self.note_import(with(&name.ident), name.rename.to_string(), is_public),
        }
    }

    fn note_import(&mut self, path: Vec<String>, name: String, is_public: bool) {
        let Some(absolute) = self.absolute(&path) else { return };
        if is_public {
            self.module.exports.insert(name, absolute);
        } else {
            self.module.imports.insert(name, absolute);
            self.note(&path);
        }
    }

    fn note(&mut self, path: &[String]) {
        self.module.uses.extend(self.absolute(path));
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let is_test = match item {
            syn::Item::Mod(module) => is_for_tests(&module.attrs),
            syn::Item::Fn(function) => is_for_tests(&function.attrs),
            syn::Item::Use(import) => is_for_tests(&import.attrs),
            syn::Item::Impl(block) => is_for_tests(&block.attrs),
            _ => false,
        };
        if !is_test {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        self.read_use(&import.tree, &[], !matches!(import.vis, syn::Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&names);
        visit::visit_path(self, path);
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}
