//! Turns the helper's answers into the errors that a client is told.

use further_link_api::{FailedStep, FilesFailure, StartFailure, UploadFailure, UserFailure};
use further_link_proto::{Event, Refusal, RunnerId, Step};
use rustix::io::Errno;

use crate::{config::setting, runners::Runners};

/// The setting that allows users.
const ALLOW_USERS: &str = setting!("--allow-user", "FURTHER_LINK_ALLOW_USERS");

/// Why the helper did not start a program.
pub(crate) fn not_started(
    event: &Event,
    runner: &RunnerId,
    runners: &Runners,
    user: Option<&str>,
) -> StartFailure {
    match event {
        Event::Refused(refusal) => refused(*refusal, user).into(),
        Event::Failed { step: Step::FindProgram, .. } => runners.not_installed(runner),
        Event::Failed { step: Step::ReadRunner, errno } => {
            runners.not_usable(runner, &std::io::Error::from_raw_os_error(*errno))
        }
        Event::Failed { step, errno } => failed_start(*step, Errno::from_raw_os_error(*errno)),
        _ => StartFailure::NoHelper,
    }
}

/// Why the helper did not store an upload.
pub(crate) fn not_stored(event: &Event, user: Option<&str>) -> UploadFailure {
    match event {
        Event::Refused(refusal) => refused(*refusal, user).into(),
        Event::Failed { step, errno } => failed_upload(*step, Errno::from_raw_os_error(*errno)),
        _ => UploadFailure::NoHelper,
    }
}

/// Why the helper did not do something with files. `reading` says that nothing was to be changed.
pub(crate) fn not_done(event: &Event, user: Option<&str>, reading: bool) -> FilesFailure {
    match event {
        Event::Refused(refusal) => refused(*refusal, user).into(),
        Event::Changed => FilesFailure::Changed,
        Event::Failed { step: Step::Files, errno } => failed_files(Errno::from_raw_os_error(*errno), reading),
        Event::Failed { errno, .. } => {
            FilesFailure::Device(std::io::Error::from_raw_os_error(*errno).to_string())
        }
        _ => FilesFailure::NoHelper,
    }
}

fn failed_files(errno: Errno, reading: bool) -> FilesFailure {
    let reason = std::io::Error::from(errno).to_string();
    match errno {
        Errno::NOENT => FilesFailure::NotFound,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => FilesFailure::NotAllowed(reason),
        Errno::XDEV | Errno::LOOP if reading => FilesFailure::LeadsOut,
        Errno::XDEV => FilesFailure::OtherDisk,
        Errno::LOOP => FilesFailure::LinkOnTheWay,
        Errno::NXIO => FilesFailure::NoFile,
        Errno::EXIST | Errno::NOTEMPTY => FilesFailure::Exists,
        Errno::ISDIR | Errno::NOTDIR => FilesFailure::WrongKind,
        Errno::INVAL if !reading => FilesFailure::IntoItself,
        Errno::NAMETOOLONG => FilesFailure::Path,
        Errno::NOSPC | Errno::DQUOT => FilesFailure::DiskFull,
        Errno::FBIG => FilesFailure::BodyTooLong,
        Errno::AGAIN => FilesFailure::Busy,
        _ => FilesFailure::Device(reason),
    }
}

fn failed_upload(step: Step, errno: Errno) -> UploadFailure {
    let reason = std::io::Error::from(errno).to_string();
    match (step, errno) {
        (_, Errno::NOSPC | Errno::DQUOT) => UploadFailure::DiskFull,
        (Step::WriteFile, Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => UploadFailure::SameName,
        (Step::Stage, _) => UploadFailure::Stage(reason),
        (Step::WriteFile, _) => UploadFailure::WriteFile(reason),
        (Step::Replace, Errno::XDEV) => UploadFailure::OtherDisk,
        (Step::Replace, _) => UploadFailure::Replace(reason),
        _ => UploadFailure::Device(FailedStep { step: step.in_words(), reason }),
    }
}

fn refused(refusal: Refusal, user: Option<&str>) -> UserFailure {
    let or_default = || user.unwrap_or("the default user").to_owned();
    match (refusal, user) {
        (Refusal::Version, _) => UserFailure::Version,
        (Refusal::UnknownUser, Some(user)) => UserFailure::Unknown(user.to_owned()),
        (Refusal::UnknownUser, None) => UserFailure::NoDefault { setting: ALLOW_USERS },
        (Refusal::UserNotAllowed, _) => UserFailure::NotAllowed { user: or_default(), setting: ALLOW_USERS },
        (Refusal::TokenMissing, _) => UserFailure::TokenMissing { user: or_default() },
        (Refusal::TokenWrong, _) => UserFailure::TokenWrong { user: or_default() },
        (Refusal::AccountDisabled, _) => UserFailure::Disabled { user: or_default() },
        (Refusal::LoginsDisabled, _) => UserFailure::LoginsDisabled,
        (Refusal::CannotSwitchUser, _) => UserFailure::NotRoot,
    }
}

fn failed_start(step: Step, errno: Errno) -> StartFailure {
    let reason = std::io::Error::from(errno).to_string();
    match (step, errno) {
        (Step::ReadDetails, Errno::NOENT) => StartFailure::VenvMissing,
        (Step::Execute, Errno::NOENT) => StartFailure::NoFile,
        (Step::Execute, Errno::NOEXEC) => StartFailure::NotAProgram,
        (Step::Execute, Errno::ACCESS) => StartFailure::NotExecutable,
        (Step::Execute, _) => StartFailure::Execute(reason),
        (Step::ChangeDirectory, Errno::NOENT) => StartFailure::NoDirectory,
        (Step::ChangeDirectory, _) => StartFailure::ChangeDirectory(reason),
        (Step::MakeDirectory, _) => StartFailure::MakeDirectory(reason),
        (Step::WriteCode, _) => StartFailure::WriteCode(reason),
        (step, _) => StartFailure::Device(FailedStep { step: step.in_words(), reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_says_what_to_do() {
        let runners = Runners::new(&[]).unwrap();
        let id = |id| RunnerId::new(id).unwrap();
        let not_allowed = Event::Refused(Refusal::UserNotAllowed);
        let refused = not_started(&not_allowed, &id("shell"), &runners, Some("root"));
        assert!(refused.to_string().contains(ALLOW_USERS), "{refused}");
        let failed = |step, errno: Errno, runner| {
            not_started(&Event::Failed { step, errno: errno.raw_os_error() }, &id(runner), &runners, None)
        };
        assert_eq!(failed(Step::Execute, Errno::NOEXEC, "exec"), StartFailure::NotAProgram);
        let missing = failed(Step::FindProgram, Errno::NOENT, "python3");
        assert!(matches!(missing, StartFailure::NotInstalled { .. }), "{missing}");
        let own = |errno| failed(Step::ReadRunner, errno, "~mine").to_string();
        assert!(own(Errno::NOENT).contains("there is no runner \"~mine\""));
        assert!(own(Errno::PERM).contains("no other user may write it"));
        assert!(own(Errno::INVAL).contains("names its line and field"));
    }

    #[test]
    fn a_quota_that_is_used_up_is_a_full_disk_to_a_person() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let failed = Event::Failed { step: Step::Files, errno: errno.raw_os_error() };
            assert_eq!(not_done(&failed, None, false), FilesFailure::DiskFull);
            assert_eq!(failed_upload(Step::WriteFile, errno), UploadFailure::DiskFull);
        }
    }
}
