//! Licences, bans and sources of all dependencies, by the rules in `deny.toml`: the part of `cargo deny check` that needs
//! neither that tool, which takes minutes to build, nor a database of advisories.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

use crate::cargo::{cargo, root};

#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    /// Who may depend on it all the same.
    #[serde(default)]
    wrappers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// What `cargo metadata` tells.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

/// Checks every package of the lock file, for every platform; prints what breaks a rule, and answers whether nothing does.
pub(super) fn check() -> anyhow::Result<bool> {
    let rules = std::fs::read_to_string(root().join("deny.toml")).context("reading deny.toml")?;
    let rules: Rules = toml::from_str(&rules).context("deny.toml")?;
    let output = cargo(["metadata", "--format-version", "1", "--all-features", "--locked"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let faults = faults(&rules, &serde_json::from_slice(&output.stdout)?)?;
    for fault in &faults {
        eprintln!("dependencies: {fault}");
    }
    Ok(faults.is_empty())
}

fn faults(rules: &Rules, metadata: &Metadata) -> anyhow::Result<Vec<String>> {
    let allowed = rules.licenses.allow.iter().map(|text| Licensee::parse(text));
    let allowed: Vec<Licensee> = allowed.collect::<Result<_, _>>().context("deny.toml: licenses.allow")?;
    let names: HashMap<&str, &str> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
    let mut faults = Vec::new();
    for Package { id, name, version, license, source } in &metadata.packages {
        match license.as_deref().map(|text| Expression::parse_mode(text, ParseMode::LAX)) {
            None => faults.push(format!("{name} {version} names no licence")),
            Some(Err(error)) => faults.push(format!("{name} {version}: {}", error.reason)),
            Some(Ok(license)) => {
                let is_allowed = license.evaluate(|wanted| allowed.iter().any(|licensee| licensee.satisfies(wanted)));
                if !is_allowed {
                    faults.push(format!("{name} {version} has the licence {license}, which is not allowed"));
                }
            }
        }
        let registry = source.as_deref().map(|source| source.trim_start_matches("registry+"));
        if let Some(source) = registry.filter(|source| !rules.sources.allow_registry.iter().any(|one| one == source)) {
            faults.push(format!("{name} {version} comes from {source}"));
        }
        let Some(ban) = rules.bans.deny.iter().find(|ban| ban.name == *name) else { continue };
        let dependents = metadata.resolve.nodes.iter().filter(|node| node.dependencies.contains(id));
        let dependents = dependents.filter_map(|node| names.get(node.id.as_str()).copied());
        let refused: Vec<_> =
            dependents.filter(|dependent| !ban.wrappers.iter().any(|wrapper| wrapper == dependent)).collect();
        if !refused.is_empty() || ban.wrappers.is_empty() {
            faults.push(format!("{name} {version} is banned; it is there for {}", refused.join(", ")));
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(license: &str, source: &str, name: &str, dependent: &str) -> Vec<String> {
        let rules = toml::from_str(
            "licenses.allow = ['MIT', 'Unicode-3.0']\n\
             bans.deny = [{ crate = 'banned' }, { crate = 'wrapped', wrappers = ['wrapper'] }]\n\
             sources.allow-registry = ['https://registry']",
        );
        let metadata = serde_json::json!({
            "packages": [
                {"id": "1", "name": name, "version": "1.0.0", "license": license, "source": source},
                {"id": "2", "name": dependent, "version": "1.0.0", "license": "MIT", "source": null},
            ],
            "resolve": {"nodes": [{"id": "2", "dependencies": ["1"]}, {"id": "1", "dependencies": []}]},
        });
        faults(&rules.unwrap(), &serde_json::from_value(metadata).unwrap()).unwrap()
    }

    #[test]
    fn each_rule_finds_who_breaks_it() {
        const REGISTRY: &str = "registry+https://registry";
        for license in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
            assert_eq!(found(license, REGISTRY, "good", "ours"), Vec::<String>::new(), "{license}");
        }
        assert_eq!(found("MIT", REGISTRY, "wrapped", "wrapper"), Vec::<String>::new());
        for (license, source, name, fault) in [
            ("GPL-3.0-only", REGISTRY, "good", "good 1.0.0 has the licence GPL-3.0-only, which is not allowed"),
            ("MIT AND ISC", REGISTRY, "good", "good 1.0.0 has the licence MIT AND ISC, which is not allowed"),
            ("MIT", "git+https://elsewhere", "good", "good 1.0.0 comes from git+https://elsewhere"),
            ("MIT", REGISTRY, "banned", "banned 1.0.0 is banned; it is there for ours"),
            ("MIT", REGISTRY, "wrapped", "wrapped 1.0.0 is banned; it is there for ours"),
        ] {
            assert_eq!(found(license, source, name, "ours"), [fault]);
        }
    }
}
