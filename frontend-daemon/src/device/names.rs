//! The names and marks of this device: its host names, and what tells it from a copy of itself.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};

/// The host name as it is now, each also with `.local`. `/etc/hostname` as well: a service with a host name
/// space of its own (`ProtectHostname=`) does not see a new name otherwise.
pub(crate) fn host_names() -> Vec<String> {
    host_names_below(Path::new("/"), &rustix::system::uname().nodename().to_string_lossy())
}

fn host_names_below(root: &Path, node: &str) -> Vec<String> {
    let file = fs::read_to_string(root.join("etc/hostname")).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for name in [node, file.lines().next().unwrap_or_default()] {
        let name = name.trim().to_ascii_lowercase();
        if !name.is_empty() && !names.contains(&name) {
            names.push(format!("{name}.local"));
            names.push(name);
        }
    }
    names
}

/// The name of the device.
pub(crate) fn host_name() -> String {
    host_names().into_iter().find(|name| !is_local(name)).unwrap_or_default()
}

/// The names of the device on the local network.
pub(crate) fn local_names() -> Vec<String> {
    host_names().into_iter().filter(|name| is_local(name)).collect()
}

/// Whether multicast DNS has the name.
fn is_local(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, top)| top == "local")
}

/// What tells this device from another one that has a copy of its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The hash of the board's serial number.
    serial: Option<String>,
    /// The hash of the machine-id, which should not leave the machine itself (machine-id(5)).
    machine: Option<String>,
}

impl Marks {
    /// Those of this device.
    pub(crate) fn of_this_device() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let hash = |path: &str| {
            let text = fs::read(root.join(path)).ok()?;
            let text = text.trim_ascii().strip_suffix(b"\0").unwrap_or(text.trim_ascii());
            let salted = [b"further-link ", text].concat();
            (!text.is_empty()).then(|| STANDARD.encode(digest(&SHA256, &salted)))
        };
        // During a first boot the machine-id is a passing one.
        let is_passing = root.join("run/machine-id").exists();
        Self {
            serial: hash("sys/firmware/devicetree/base/serial-number"),
            machine: if is_passing { None } else { hash("etc/machine-id") },
        }
    }

    /// Reads what [`Self::to_text`] has written.
    pub(crate) fn parse(text: &str) -> Self {
        let value = |key| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        Self { serial: value("serial "), machine: value("machine ") }
    }

    /// A line for each mark.
    pub(crate) fn to_text(&self) -> String {
        let line = |key: &str, value: &Option<String>| {
            value.as_ref().map_or_else(String::new, |value| format!("{key} {value}\n"))
        };
        line("serial", &self.serial) + &line("machine", &self.machine)
    }

    /// Whether these are of two devices. The serial number decides where both have one: a machine-id can be
    /// replaced.
    pub(crate) fn differ_from(&self, other: &Self) -> bool {
        match (&self.serial, &other.serial) {
            (Some(one), Some(other)) => one != other,
            _ => match (&self.machine, &other.machine) {
                (Some(one), Some(other)) => one != other,
                _ => false,
            },
        }
    }

    /// Whether there is anything to compare.
    pub(crate) fn are_known(&self) -> bool {
        self.serial.is_some() || self.machine.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// The root of a file system, removed at the end.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("further-link-{name}.{}", std::process::id()));
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn both_host_names_count_and_an_empty_one_does_not() {
        let root = Root::new("names");
        assert_eq!(host_names_below(&root.0, "Pi"), ["pi.local", "pi"]);
        root.write("etc/hostname", "pi17\n");
        assert_eq!(host_names_below(&root.0, "pi"), ["pi.local", "pi", "pi17.local", "pi17"]);
        assert_eq!(host_names_below(&root.0, ""), ["pi17.local", "pi17"]);
    }

    #[test]
    fn the_serial_number_tells_copies_apart_and_else_the_machine_id() {
        let marks = |serial: Option<&str>, machine: Option<&str>| {
            let root = Root::new("marks");
            if let Some(serial) = serial {
                root.write("sys/firmware/devicetree/base/serial-number", serial);
            }
            if let Some(machine) = machine {
                root.write("etc/machine-id", machine);
            }
            let marks = Marks::below(&root.0);
            assert_eq!(Marks::parse(&marks.to_text()), marks);
            marks
        };
        let (one, two) = (Some("10000000a\0"), Some("10000000b\0"));
        assert!(marks(one, Some("m\n")).differ_from(&marks(two, Some("m\n"))));
        assert!(!marks(one, Some("m\n")).differ_from(&marks(one, Some("n\n"))));
        assert!(marks(None, Some("m\n")).differ_from(&marks(None, Some("n\n"))));
        assert!(!marks(None, Some("m\n")).differ_from(&marks(None, Some("m\n"))));
        assert!(!marks(None, None).differ_from(&marks(one, Some("m\n"))));
        assert!(!marks(None, None).are_known() && marks(None, Some("m")).are_known());
        assert!(!marks(one, None).to_text().contains("10000000a"));
    }
}
