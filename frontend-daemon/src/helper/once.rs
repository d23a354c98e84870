//! A run of the service's own, from its start to its end: no client has asked for it, and it takes none of
//! their slots.

use std::{io, os::fd::OwnedFd};

use further_link_proto::{
    CodeLength, Details, DetailsLength, Ended, Event, Identity, Request, Run, RunnerId,
};
use tokio::io::Interest;

use crate::{
    helper::pool::{HelperAddress, HelperError},
    helper::stream::{Read, Stream, take},
};

/// What to run, as the default user and on pipes.
pub(crate) struct Once<'a> {
    pub(crate) runner: &'a RunnerId,
    pub(crate) details: Details,
    pub(crate) code: Option<&'a str>,
    pub(crate) input: &'a str,
    /// Bytes that are read of each stream. Who writes more writes into a closed pipe.
    pub(crate) most: usize,
}

/// How it went.
pub(crate) enum Finished {
    /// With the standard output, and with what the program and its compiler said on standard error.
    Ended { ended: Ended, stdout: Vec<u8>, stderr: Vec<u8> },
    /// It was refused, or failed.
    NotStarted(Event),
}

impl Once<'_> {
    /// Runs it. Dropping the future ends the program.
    pub(crate) async fn run(&self, helper: &HelperAddress) -> Result<Finished, HelperError> {
        let details = self.details.to_bytes().map_err(io::Error::other)?;
        let code = self.code.map(|code| CodeLength::new(code.len())).transpose().map_err(io::Error::other)?;
        let run = Run {
            identity: Identity::default(),
            runner: self.runner.clone(),
            path: None,
            details: Some(DetailsLength::new(details.len()).map_err(io::Error::other)?),
            code,
            terminal: None,
        };
        let conversation = helper.connect().await?;
        let (mut event, mut descriptors) = conversation.begin(&Request::Run(run)).await?;
        if event == Event::Data
            && let Some(pipe) = descriptors.pop()
        {
            let text = self.code.unwrap_or_default();
            let pipe = Stream::new(pipe, Interest::WRITABLE)?;
            pipe.write_parts(&[&details, text.as_bytes()]).await;
            (event, descriptors) = conversation.recv().await?;
        }
        if !matches!(event, Event::Started { .. }) {
            return Ok(Finished::NotStarted(event));
        }
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or_else(|| io::Error::other("a stream is missing"));
        let (stdin, stdout, stderr, _channel) = (next()?, next()?, next()?, next()?);
        let compiler = next().ok();
        let stdin = Stream::new(stdin, Interest::WRITABLE)?;
        let input = async move { stdin.write_parts(&[self.input.as_bytes()]).await };
        let of_compiler = async {
            match compiler {
                Some(pipe) => beginning(pipe, self.most).await,
                None => Ok(Vec::new()),
            }
        };
        let outputs = async {
            tokio::try_join!(beginning(stdout, self.most), beginning(stderr, self.most), of_compiler)
        };
        let last = async {
            loop {
                match conversation.recv_last().await? {
                    (Event::Compiled, _) => {}
                    (Event::Exited(ended), _) => return Ok(ended),
                    (event, _) => return Err(io::Error::other(format!("{event:?} is out of place")).into()),
                }
            }
        };
        let (ended, outputs, ()) = tokio::join!(last, outputs, input);
        let (stdout, stderr, mut of_compiler) = outputs?;
        of_compiler.extend(stderr);
        ended.map(|ended| Finished::Ended { ended, stdout, stderr: of_compiler })
    }
}

async fn beginning(pipe: OwnedFd, most: usize) -> io::Result<Vec<u8>> {
    let stream = Stream::new(pipe, Interest::READABLE)?;
    let mut bytes = Vec::with_capacity(most);
    while bytes.len() < bytes.capacity()
        && stream.read(&mut bytes, take, |length, room| length < room).await? != Read::Eof
    {}
    Ok(bytes)
}
