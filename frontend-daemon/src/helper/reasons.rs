//! What the helper answered when it did not do something, in words for the person who asked for it.

use further_link_api::ClientError;
use further_link_proto::{Event, Refusal, Runner, Step};
use rustix::io::Errno;

/// Why the helper did not start a program, in words for the person who asked for it.
pub(crate) fn not_started(event: &Event, runner: Runner, user: Option<&str>) -> ClientError {
    if let Event::Refused(refusal @ Refusal::TokenWrong) = event {
        return ClientError::WrongToken(refused(*refusal, user));
    }
    ClientError::NotStarted(in_words(event, user, |step, errno| failed(step, errno, runner)))
}

/// Why the helper did not store an upload, in words for the person who asked for it.
pub(crate) fn not_stored(event: &Event, user: Option<&str>) -> String {
    in_words(event, user, failed_upload)
}

fn in_words(event: &Event, user: Option<&str>, failed: impl FnOnce(Step, Errno) -> String) -> String {
    match event {
        Event::Refused(refusal) => refused(*refusal, user),
        Event::Failed { step, errno } => failed(*step, Errno::from_raw_os_error(*errno)),
        Event::Data
        | Event::Started { .. }
        | Event::Exited(_)
        | Event::Cached
        | Event::Missing
        | Event::Stored => "the helper gave an answer out of place".to_owned(),
    }
}

fn failed_upload(step: Step, errno: Errno) -> String {
    let reason = std::io::Error::from(errno);
    match (step, errno) {
        (_, Errno::NOSPC | Errno::DQUOT) => "the device's disk is full".to_owned(),
        (Step::WriteFile, Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => {
            "two files of the upload need the same name".to_owned()
        }
        (Step::Stage, _) => format!("the user's directory for uploads cannot be used: {reason}"),
        (Step::WriteFile, _) => format!("cannot write a file: {reason}"),
        (Step::Replace, Errno::XDEV) => {
            "the directory is on another disk than the user's directory for uploads; upload to a new name"
                .to_owned()
        }
        (Step::Replace, _) => format!("cannot put the directory into its place: {reason}"),
        _ => format!("the device cannot store uploads now ({step:?}: {reason})"),
    }
}

fn refused(refusal: Refusal, user: Option<&str>) -> String {
    match (refusal, user) {
        (Refusal::Version, _) => {
            "the two parts of further-link are of different versions; restart the service".to_owned()
        }
        (Refusal::UnknownUser, Some(user)) => format!("there is no user {user:?} on this device"),
        (Refusal::UnknownUser, None) => {
            "the default user does not exist on this device; create it, or allow another one with --allow-user".to_owned()
        }
        (Refusal::UserNotAllowed, user) => {
            let user = user.unwrap_or("the default user");
            format!("{user} may not run programs here; whoever administers this device can allow it with --allow-user")
        }
        (Refusal::TokenMissing, user) => {
            let user = user.unwrap_or("the default user");
            format!("running programs as {user} needs this device's token for it: ask whoever administers the device, and add user_token=… to the address")
        }
        (Refusal::TokenWrong, user) => {
            let user = user.unwrap_or("the default user");
            format!("this is not the device's token for {user}: ask whoever administers the device for the one it has now")
        }
        (Refusal::AccountDisabled, user) => {
            let user = user.unwrap_or("the default user");
            format!("the account of {user} is locked or expired, or may not log in (its shell is nologin or false); ask this device's administrator to unlock it")
        }
        (Refusal::LoginsDisabled, _) => {
            "the administrator lets no users log in at the moment (/etc/nologin is there); try again later".to_owned()
        }
        (Refusal::CannotSwitchUser, _) => {
            "the server was not started as root, so it runs programs as its own user only".to_owned()
        }
    }
}

fn failed(step: Step, errno: Errno, runner: Runner) -> String {
    let reason = std::io::Error::from(errno);
    match (step, runner) {
        (Step::Execute, Runner::Python3) if errno == Errno::NOENT => {
            "python3 is not installed, or not in the PATH".to_owned()
        }
        (Step::Execute, _) if errno == Errno::NOENT => {
            "no such file, or the interpreter that its first line names does not exist".to_owned()
        }
        (Step::Execute, _) if errno == Errno::NOEXEC => {
            "the file is not a program; a script must begin with a line such as #!/bin/sh".to_owned()
        }
        (Step::Execute, _) if errno == Errno::ACCESS => "no permission to execute the file".to_owned(),
        (Step::Execute, _) => format!("cannot execute the file: {reason}"),
        (Step::ChangeDirectory, _) if errno == Errno::NOENT => "there is no such directory".to_owned(),
        (Step::ChangeDirectory, _) => format!("cannot work in the directory: {reason}"),
        (Step::MakeDirectory, _) => format!("cannot make the directory: {reason}"),
        (Step::WriteCode, _) => format!("cannot write the program's file: {reason}"),
        (
            Step::Streams
            | Step::Fork
            | Step::Attach
            | Step::Identity
            | Step::Stage
            | Step::WriteFile
            | Step::Replace,
            _,
        ) => {
            format!("the device cannot start programs now ({step:?}: {reason})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_begins_like_the_original_and_says_what_to_do() {
        let refused =
            not_started(&Event::Refused(Refusal::UserNotAllowed), Runner::Shell, Some("root")).to_string();
        assert!(refused.starts_with("Message Exception: "), "{refused}");
        assert!(refused.contains("root may not run programs here"), "{refused}");
        let failed =
            not_started(&Event::Failed { step: Step::Execute, errno: 8 }, Runner::Exec, None).to_string();
        assert!(failed.contains("#!/bin/sh"), "{failed}");
    }
}
