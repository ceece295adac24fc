//! Which file of a crate names items of which other file, read from its source.
//!
//! A name is followed through `use` to the file that defines it, so that a module that only
//! re-exports names adds no edge. A module and what is below it are one place: what they name of
//! each other is no edge either. Test code is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::{Item, UseTree, visit::Visit};

/// A module by its path below the crate's root, which is empty.
pub(crate) type Module = Vec<String>;

/// The modules of one crate that have a file, and what each names of the others.
pub(crate) struct Graph {
    files: BTreeMap<Module, SourceFile>,
}

struct SourceFile {
    /// Names that the file brings in, and where they come from.
    uses: Vec<Use>,
    /// Paths in its code that begin at the root, the parent or a child.
    paths: Vec<Vec<String>>,
}

struct Use {
    name: String,
    path: Vec<String>,
    handed_on: bool,
}

/// One file names an item of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) from: Module,
    pub(crate) to: Module,
    pub(crate) item: String,
}

impl Graph {
    /// Reads the crate whose sources are in `folder`.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        for root in ["lib.rs", "main.rs"] {
            let file = folder.join(root);
            if file.exists() {
                read_file(&file, folder, &Vec::new(), &mut files);
            }
        }
        Self { files }
    }

    /// Everything that one file names of another, each once.
    pub(crate) fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (from, source) in &self.files {
            let named = source.uses.iter().filter(|used| !used.handed_on);
            let paths = named.map(|used| &used.path).chain(&source.paths);
            for path in paths {
                let Some((to, item)) = self.resolve(from, path, 0) else {
                    continue;
                };
                // What is below a file is a part of it.
                if !to.starts_with(from) && !from.starts_with(&to) {
                    let from = from.clone();
                    edges.insert(Edge { from, to, item });
                }
            }
        }
        edges
    }

    /// The module that defines what `path` means inside `from`, and the item's name.
    fn resolve(&self, from: &Module, path: &[String], depth: usize) -> Option<(Module, String)> {
        let absolute = self.absolute(from, path)?;
        let length = (0..=absolute.len())
            .rev()
            .find(|length| self.files.contains_key(&absolute[..*length]))?;
        let (module, rest) = absolute.split_at(length);
        let module = module.to_vec();
        let Some(item) = rest.first() else {
            return Some((module, "*".to_owned()));
        };
        let brought_in = self.files[&module]
            .uses
            .iter()
            .find(|used| used.name == *item && depth < 8)
            .and_then(|used| self.resolve(&module, &used.path, depth + 1));
        brought_in.or(Some((module, item.clone())))
    }

    /// The path from the crate's root, if it leads into this crate.
    fn absolute(&self, from: &Module, path: &[String]) -> Option<Vec<String>> {
        let first = path.first()?;
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => from[..from.len().checked_sub(1)?].to_vec(),
            child => {
                let mut module = from.clone();
                module.push(child.to_owned());
                return self.files.contains_key(&module).then(|| {
                    module.extend_from_slice(&path[1..]);
                    module
                });
            }
        };
        for part in &path[1..] {
            match part.as_str() {
                "super" => drop(base.pop()?),
                part => base.push(part.to_owned()),
            }
        }
        Some(base)
    }
}

/// The circles among `edges`, each by its members.
pub(crate) fn circles(edges: &BTreeSet<(Module, Module)>) -> Vec<BTreeSet<Module>> {
    let mut reach: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for (from, to) in edges {
        reach.entry(from).or_default().insert(to);
    }
    loop {
        let before: usize = reach.values().map(BTreeSet::len).sum();
        let step = reach.clone();
        for targets in reach.values_mut() {
            for target in targets.clone() {
                targets.extend(step.get(target).into_iter().flatten().copied());
            }
        }
        if reach.values().map(BTreeSet::len).sum::<usize>() == before {
            break;
        }
    }
    let both = |a: &Module, b: &Module| {
        reach.get(a).is_some_and(|targets| targets.contains(b))
            && reach.get(b).is_some_and(|targets| targets.contains(a))
    };
    let mut found: Vec<BTreeSet<Module>> = Vec::new();
    for module in reach.keys() {
        if both(module, module) && !found.iter().any(|circle| circle.contains(*module)) {
            let members = reach.keys().filter(|other| both(module, other));
            found.push(members.map(|member| (*member).clone()).collect());
        }
    }
    found
}

fn read_file(
    file: &Path,
    folder: &Path,
    module: &Module,
    files: &mut BTreeMap<Module, SourceFile>,
) {
    let text = fs::read_to_string(file).expect("a source file");
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let mut source = SourceFile {
        uses: Vec::new(),
        paths: Vec::new(),
    };
    let mut children = Vec::new();
    collect(&syntax.items, &mut source, &mut children);
    files.insert(module.clone(), source);
    for child in children {
        let mut path = module.clone();
        path.push(child.clone());
        let beside = folder.join(format!("{child}.rs"));
        let below = folder.join(&child);
        let file = match beside.exists() {
            true => beside,
            false => below.join("mod.rs"),
        };
        if file.exists() {
            read_file(&file, &below, &path, files);
        }
    }
}

fn collect(items: &[Item], source: &mut SourceFile, children: &mut Vec<String>) {
    for item in items {
        match item {
            Item::Mod(inner) if is_test(&inner.attrs) => {}
            Item::Mod(inner) => match &inner.content {
                Some((_, items)) => collect(items, source, children),
                None => children.push(inner.ident.to_string()),
            },
            Item::Use(used) if is_test(&used.attrs) => {}
            Item::Use(used) => {
                let handed_on = !matches!(used.vis, syn::Visibility::Inherited);
                flatten(&used.tree, &mut Vec::new(), &mut |name, path| {
                    source.uses.push(Use {
                        name,
                        path,
                        handed_on,
                    });
                });
            }
            Item::Fn(function) if is_test(&function.attrs) => {}
            other => Paths(&mut source.paths).visit_item(other),
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string().contains("test"))
    })
}

fn flatten(tree: &UseTree, base: &mut Vec<String>, found: &mut impl FnMut(String, Vec<String>)) {
    match tree {
        UseTree::Path(path) => {
            base.push(path.ident.to_string());
            flatten(&path.tree, base, found);
            base.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            found(base.last().cloned().unwrap_or_default(), base.clone());
        }
        UseTree::Name(name) => {
            let path = base.iter().cloned().chain([name.ident.to_string()]);
            found(name.ident.to_string(), path.collect());
        }
        UseTree::Rename(rename) => {
            let path = base.iter().cloned().chain([rename.ident.to_string()]);
            found(rename.rename.to_string(), path.collect());
        }
        UseTree::Glob(_) => found("*".to_owned(), base.clone()),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, base, found);
            }
        }
    }
}

struct Paths<'a>(&'a mut Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments = path.segments.iter();
            self.0
                .push(segments.map(|segment| segment.ident.to_string()).collect());
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, inner: &'ast syn::ItemMod) {
        if !is_test(&inner.attrs) {
            syn::visit::visit_item_mod(self, inner);
        }
    }
}
