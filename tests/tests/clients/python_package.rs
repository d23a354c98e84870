//! The package `further_link` of `python/` and the daemon together, as a person's program brings them
//! together: keys, pictures, from each place a program can be started.
//!
//! B12, D39, D40, D43; the two halves alone are tested by `channel.rs` and by `python/tests`. A checkout may
//! lie where `pi` cannot read it, so the helper of these tests gives programs a copy. That a daemon from a
//! checkout gives them the checkout's is the last test. Needs python3-pil and python3-numpy, as README.md
//! says.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail the test")]
#![expect(clippy::disallowed_methods, reason = "it copies the package, and has python look at the pictures")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use further_link_tests::daemon::Builder;
use further_link_tests::programs::{python, shell};
use further_link_tests::standalone::{Helper, service};
use further_link_tests::{Client, Daemon};
use serde_json::{Value, json};

/// The package in this checkout.
fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../python").canonicalize().unwrap()
}

/// A daemon whose programs, those of `pi`, can import the package. The helper goes after it.
#[track_caller]
fn daemon() -> (Daemon, Helper) {
    let builder: Builder = Daemon::builder();
    let copy = builder.scratch().root().join("python");
    std::fs::create_dir(&copy).unwrap();
    let copied = Command::new("cp").arg("-r").arg(package().join("further_link")).arg(&copy).status();
    assert!(copied.unwrap().success());
    let readable = Command::new("chmod").args(["-R", "a+rX"]).arg(&copy).status();
    assert!(readable.unwrap().success());
    let options =
        ["--listen", "SOCKET", "--frontend-user", &service(), "--python-path", copy.to_str().unwrap()];
    let helper = Helper::start(builder.scratch(), &[], &options);
    (helper.used_by(builder).start(), helper)
}

#[track_caller]
fn expect_keylisten(client: &mut Client, id: &str, key: &str) {
    client.expect(&format!("keylisten for {key:?}"), |message| {
        message["type"] == "keylisten" && message["process"] == id && message["data"]["key"] == key
    });
}

fn press(client: &mut Client, id: &str, key: &str, event: &str) {
    client.send(&json!({"type": "keyevent", "process": id, "data": {"key": key, "event": event}}));
}

/// What Pillow sees in the base64 of a JPEG: the size, and the colour in the middle.
#[track_caller]
fn seen(message: &Value) -> String {
    let look = "
import base64, io, sys
from PIL import Image
data = base64.b64decode(sys.stdin.read(), validate=True)
assert data.startswith(b'\\xff\\xd8\\xff') and data.endswith(b'\\xff\\xd9'), data[:10]
image = Image.open(io.BytesIO(data))
middle = image.convert('RGB').getpixel((image.width // 2, image.height // 2))
near = [round(part / 255) * 255 for part in middle]
print(image.format, *image.size, *near)
";
    let mut python = Command::new("/usr/bin/python3");
    let mut python = python.args(["-c", look]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let base64 = message["data"]["output"].as_str().unwrap();
    python.stdin.take().unwrap().write_all(base64.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[track_caller]
fn expect_picture(client: &mut Client, id: &str, looks: &str) {
    let frame = client.expect("a picture", |message| message["type"] == "video" && message["process"] == id);
    assert_eq!(seen(&frame), looks);
}

const KEYS: &str = r#"
import signal, sys
from further_link import KeyboardButton

def heard(text):
    print(ascii(text), flush=True)

for name in ("ArrowUp", " ", "é"):
    key = KeyboardButton(name)
    key.when_pressed = lambda name=name: heard(name + " down")
    key.when_released = lambda name=name: heard(name + " up")
# In one write: the thread that hears the keys prints as well.
sys.stdout.write("ready\n")
signal.pause()
"#;

/// What `KEYS` prints for [`press_all`].
const KEYS_HEARD: &str = "ready\n'ArrowUp down'\n'ArrowUp up'\n'  down'\n'  up'\n'\\xe9 down'\n'\\xe9 up'\n";

#[track_caller]
fn press_all(client: &mut Client, id: &str) {
    for key in ["ArrowUp", " ", "é"] {
        expect_keylisten(client, id, key);
    }
    // A button asks for its key before the program gives it functions. Not any line: a shell has printed some
    // already.
    client.wait_stdout(id, "ready");
    for key in ["ArrowUp", " ", "é"] {
        for event in ["keydown", "keyup"] {
            press(client, id, key, event);
        }
    }
}

/// A red PIL picture, then a blue array, in the order of colours of `OpenCV`.
const PICTURES: &str = r#"
import numpy
from PIL import Image
from further_link import send_image

send_image(Image.new("RGB", (64, 48), (255, 0, 0)))
input()
array = numpy.zeros((24, 32, 3), dtype=numpy.uint8)
array[:, :, 0] = 255
send_image(array)
"#;
const RED: &str = "JPEG 64 48 255 0 0";
const BLUE: &str = "JPEG 32 24 0 0 255";

/// D39: the space bar is a key as others are.
#[test]
fn a_keyboard_button_hears_the_keys_of_the_browser() {
    let (daemon, _helper) = daemon();
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        client.start("1", python(KEYS));
        press_all(&mut client, "1");
        client.wait_lines("1", 7);
        assert_eq!(client.stdout("1").replace('\r', ""), KEYS_HEARD);
        client.stop("1");
        assert_eq!(client.wait_stopped("1"), -15);
    }
}

#[test]
fn pictures_of_pillow_and_numpy_arrive_as_jpeg() {
    let (daemon, _helper) = daemon();
    let mut client = daemon.run("");
    client.start("1", python(PICTURES));
    expect_picture(&mut client, "1", RED);
    client.stdin("1", "\n");
    expect_picture(&mut client, "1", BLUE);
    assert_eq!(client.wait_stopped("1"), 0);
    assert_eq!(client.stderr("1"), "");
}

/// D43: in the original both fail there.
#[test]
fn both_work_in_a_program_that_is_started_from_a_shell() {
    let (daemon, _helper) = daemon();
    let (keys, pictures) = (daemon.work().join("keys.py"), daemon.work().join("pictures.py"));
    std::fs::write(&keys, KEYS).unwrap();
    std::fs::write(&pictures, PICTURES).unwrap();
    let mut client = daemon.run("pty=1");
    client.start("1", shell());
    client.stdin("1", &format!("python3 {}; echo done-$?\r", pictures.display()));
    expect_picture(&mut client, "1", RED);
    client.stdin("1", "\r");
    expect_picture(&mut client, "1", BLUE);
    client.wait_stdout("1", "done-0\r\n");
    client.stdin("1", &format!("python3 {}\r", keys.display()));
    press_all(&mut client, "1");
    client.wait_stdout("1", &KEYS_HEARD.replace('\n', "\r\n"));
    // Ctrl-C, from the terminal to the program alone.
    client.stdin("1", "\u{3}");
    client.wait_stdout("1", "KeyboardInterrupt\r\n");
    client.stdin("1", "echo ended-$?\r");
    client.wait_stdout("1", "ended-130\r\n");
    client.stdin("1", "exit\r");
    client.wait_stopped("1");
}

#[test]
fn both_work_on_run_py() {
    let (daemon, _helper) = daemon();
    let mut client = daemon.run_py("");
    client.start("", json!({"sourceScript": PICTURES}));
    expect_picture(&mut client, "", RED);
    client.stdin("", "\n");
    expect_picture(&mut client, "", BLUE);
    assert_eq!(client.wait_stopped(""), 0);
    client.take_output();
    client.start("", json!({"sourceScript": KEYS}));
    press_all(&mut client, "");
    client.wait_lines("", 7);
    client.stop("");
    assert_eq!(client.wait_stopped(""), -15);
}

/// D40: in the original a program with a button never ends, and its first frame may be lost.
#[test]
fn a_program_with_a_button_ends_by_itself_and_its_only_picture_arrives() {
    let (daemon, _helper) = daemon();
    let mut client = daemon.run("");
    let code = "from PIL import Image\nfrom further_link import KeyboardButton, send_image\n\
                button = KeyboardButton('a')\nbutton.when_pressed = print\n\
                send_image(Image.new('RGB', (64, 48), (255, 0, 0)))\nprint('end')";
    let finished = client.run("1", python(code));
    assert_eq!((finished.exit_code, finished.stdout.as_str(), finished.stderr.as_str()), (0, "end\n", ""));
    expect_keylisten(&mut client, "1", "a");
    expect_picture(&mut client, "1", RED);
}

/// Root can read any checkout, so its program tells whose package a daemon without further options offers.
#[test]
fn a_daemon_from_a_checkout_offers_the_package_of_its_own_version() {
    let daemon = Daemon::builder().allow_users(&["root"]).start();
    let code = "import further_link\nprint(further_link.__version__, further_link.__file__)";
    let finished = daemon.run_once(python(code));
    let version: Value = serde_json::from_str(&daemon.http("GET", "/version").body).unwrap();
    let version = version["version"].as_str().unwrap();
    let (offered, file) = finished.stdout.trim().split_once(' ').unwrap();
    assert_eq!(offered, version);
    let file = Path::new(file).canonicalize().unwrap();
    assert_eq!(file, package().join("further_link/__init__.py"));
}
