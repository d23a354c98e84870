//! Limits of time and size that are too long for a test against the whole daemon, urls that are refused
//! without a request, and the key of the cache.

use std::{future::Future, time::Duration};

use further_link_proto::RelativePath;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{DEFAULT, DownloadError, Downloads, Limits, cache_path};

const SHORT: Duration = Duration::from_millis(200);

/// A server for one connection, which it treats like this once the request has come. Its address.
async fn server<F: Future<Output = ()> + Send>(
    treat: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        treat(stream).await;
    });
    format!("http://{address}/file?secret=1")
}

/// Downloads all of it with these limits; how much came.
async fn downloaded(url: &str, limits: Limits) -> Result<usize, DownloadError> {
    let downloads = Downloads::with(true, limits);
    let mut download = downloads.begin(url).await?;
    let mut bytes = 0;
    while let Some(piece) = download.next().await? {
        bytes += piece.len();
    }
    Ok(bytes)
}

async fn answer(mut stream: TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let before_the_head = server(|stream| async {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let limits = Limits { silence: SHORT, ..DEFAULT };
    assert_eq!(downloaded(&before_the_head, limits).await, Err(DownloadError::Slow));
    let within_the_body = server(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(downloaded(&within_the_body, limits).await, Err(DownloadError::Slow));
}

#[tokio::test]
async fn a_server_that_drips_is_given_up_in_the_end() {
    let url = server(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await.unwrap();
        let mut tick = tokio::time::interval(SHORT / 10);
        loop {
            tick.tick().await;
            if stream.write_all(b"a").await.is_err() {
                return;
            }
        }
    })
    .await;
    let limits = Limits { total: SHORT * 3, ..DEFAULT };
    assert_eq!(downloaded(&url, limits).await, Err(DownloadError::Slow));
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_header_or_while_it_comes() {
    let limits = Limits { bytes: 10, ..DEFAULT };
    let fits =
        server(|stream| answer(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789")).await;
    assert_eq!(downloaded(&fits, limits).await, Ok(10));
    let announced = server(|stream| answer(stream, "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n")).await;
    assert_eq!(downloaded(&announced, limits).await, Err(DownloadError::TooLarge(10)));
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n012345678\r\n2\r\n90\r\n0\r\n\r\n";
    let chunked = server(move |stream| answer(stream, text)).await;
    assert_eq!(downloaded(&chunked, limits).await, Err(DownloadError::TooLarge(10)));
}

#[tokio::test]
async fn what_breaks_off_is_an_error_without_the_query_in_it() {
    let short = server(|stream| answer(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")).await;
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n0123";
    let cut = server(move |stream| answer(stream, chunked)).await;
    let nonsense = server(|stream| answer(stream, "nonsense\r\n\r\n")).await;
    for url in [short, cut, nonsense] {
        let error = downloaded(&url, DEFAULT).await.unwrap_err();
        assert!(matches!(error, DownloadError::Failed(_)), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
    }
}

#[tokio::test]
async fn addresses_of_this_device_and_other_schemes_are_refused_without_a_request() {
    let downloads = Downloads::new(false);
    for url in [
        "http://127.0.0.1/",
        "http://127.0.0.1./",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://017700000001/",
        "http://127.1/",
        "http://0/",
        "http://0.0.0.0/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.1.2.3:8080/",
        "https://192.168.0.1/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[fe80::1]/",
        "http://user:pass@127.0.0.1/",
        "http://1.1.1.1@127.0.0.1/",
        "http://localhost/",
        "http://localhost:8028/run",
    ] {
        let refused = downloads.begin(url).await.err();
        assert!(matches!(refused, Some(DownloadError::Address(_))), "{url}: {refused:?}");
    }
    for url in ["file:///etc/passwd", "ftp://1.1.1.1/x", "data:,x", "gopher://1.1.1.1/", "unix:/run/x"] {
        assert_eq!(downloads.begin(url).await.err(), Some(DownloadError::Scheme), "{url}");
    }
    for url in ["", "x", "/etc/passwd", "//1.1.1.1/", "http://", "http:// /", "http://[::1"] {
        let refused = downloads.begin(url).await.err();
        assert!(matches!(refused, Some(DownloadError::Url(_))), "{url}: {refused:?}");
    }
}

#[test]
fn each_url_has_its_own_place_in_the_cache() {
    let path = |text: &str| RelativePath::new(text).unwrap();
    let place = |url: &str| cache_path(&path("b/c"), url, &path("f")).unwrap().as_str().to_owned();
    // printf %s http://h/a | sha256sum
    assert_eq!(place("http://h/a"), "b/c/c43fa283946b81455781ee66e2429e92/f");
    assert_ne!(place("http://h/a"), place("http://h/b"));
    assert_eq!(cache_path(&path(&["d"; 31].join("/")), "u", &path("f")), None);
}
