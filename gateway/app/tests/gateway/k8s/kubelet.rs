//! A pod's files, laid out as the kubelet does: each volume's files are links into `..data`, which is
//! itself a link that is swapped when the volume changes.
//!
//! Paths inside of the pod lie below a directory of the test's. Knows the kinds of volumes that the
//! chart uses.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Files by name.
pub(super) type Files = BTreeMap<String, String>;

/// The node on which a pod is to run.
pub(super) struct Kubelet {
    root: PathBuf,
    pub(super) config_maps: BTreeMap<String, Files>,
    pub(super) secrets: BTreeMap<String, Files>,
}

impl Kubelet {
    /// With the ConfigMaps among `objects`.
    pub(super) fn at(root: &Path, objects: &[Value]) -> Self {
        let maps = objects.iter().filter(|one| one["kind"] == "ConfigMap");
        let config_maps = maps.map(|one| {
            let files = serde_json::from_value(one["data"].clone()).unwrap();
            (one["metadata"]["name"].as_str().unwrap().to_owned(), files)
        });
        Self {
            root: root.to_owned(),
            config_maps: config_maps.collect(),
            secrets: BTreeMap::new(),
        }
    }

    /// Where a path inside of the pod is.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// Mounts everything that a container of a workload asks for.
    pub(super) fn mount(&self, workload: &Value, container: &Value) {
        let spec = &workload["spec"];
        let claims = spec["volumeClaimTemplates"].as_array();
        let claimed = |name: &Value| {
            let mut all = claims.into_iter().flatten();
            all.any(|claim| claim["metadata"]["name"] == *name)
        };
        for mount in container["volumeMounts"].as_array().unwrap() {
            let mut volumes = spec["template"]["spec"]["volumes"]
                .as_array()
                .unwrap()
                .iter();
            let volume = volumes.find(|volume| volume["name"] == mount["name"]);
            assert!(
                volume.is_some() != claimed(&mount["name"]),
                "one volume for {mount}"
            );
            let at = self.path(mount["mountPath"].as_str().unwrap());
            let Some(files) = volume.and_then(|volume| self.files(volume)) else {
                fs::create_dir_all(at).unwrap();
                continue;
            };
            match mount["subPath"].as_str() {
                None => swap(&at, &files),
                Some(name) => {
                    fs::create_dir_all(at.parent().unwrap()).unwrap();
                    fs::write(at, &files[name]).unwrap();
                }
            }
        }
    }

    /// A volume's files, if it comes with some.
    fn files(&self, volume: &Value) -> Option<Files> {
        let named = |all: &BTreeMap<String, Files>, source: &Value, name: &str| {
            let name = source[name].as_str().unwrap();
            let files = all
                .get(name)
                .unwrap_or_else(|| panic!("there is no {name}"));
            let items = source["items"].as_array();
            let Some(items) = items else {
                return files.clone();
            };
            let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
            let item = |item: &Value| (text(item, "path"), files[&text(item, "key")].clone());
            items.iter().map(item).collect()
        };
        if volume["configMap"].is_object() {
            return Some(named(&self.config_maps, &volume["configMap"], "name"));
        }
        if volume["secret"].is_object() {
            return Some(named(&self.secrets, &volume["secret"], "secretName"));
        }
        let mut files = Files::new();
        for source in volume["projected"]["sources"].as_array()? {
            if source["configMap"].is_object() {
                files.extend(named(&self.config_maps, &source["configMap"], "name"));
            } else {
                let path = source["serviceAccountToken"]["path"].as_str().unwrap();
                files.extend([(path.to_owned(), self.secrets["token"]["token"].clone())]);
            }
        }
        Some(files)
    }
}

/// Brings a volume to hold these files, all at once.
pub(super) fn swap(at: &Path, files: &Files) {
    fs::create_dir_all(at).unwrap();
    let state = tempfile::Builder::new()
        .prefix("..")
        .tempdir_in(at)
        .unwrap()
        .keep();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text) in files {
        let path = state.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    }
    let old = fs::read_link(at.join("..data"));
    symlink(state.file_name().unwrap(), at.join("..data_tmp")).unwrap();
    fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
    let shown: Vec<&str> = files
        .keys()
        .filter_map(|name| name.split('/').next())
        .collect();
    for name in &shown {
        let link = at.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    for entry in fs::read_dir(at).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with("..") && !shown.contains(&name.as_str()) {
            fs::remove_file(at.join(name)).unwrap();
        }
    }
    if let Ok(old) = old {
        fs::remove_dir_all(at.join(old)).unwrap();
    }
}
