//! The little of HTTP/1.1 that a page of numbers needs: an answer for the head of a request.
//!
//! | asked | answered |
//! |---|---|
//! | `GET` or `HEAD` of `/metrics` | 200 and the page |
//! | the same of `/` | 200 and a line that names it |
//! | the same of anything else | 404 |
//! | any other method | 405 |
//! | a first line that is none | 400 |
//! | a head of more than [`MOST`] bytes | 431 |
//!
//! Nothing of a request is repeated in its answer. A connection serves one request.

/// The bytes that the head of a request may have.
pub(super) const MOST: usize = 8 << 10;

/// Where a request has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// It has not ended.
    Part,
    Whole,
    TooLong,
}

/// Whether these bytes hold the head of a request. What comes behind it is its body, and of no interest.
pub(super) fn head(bytes: &[u8]) -> Head {
    let ends = |end: &[u8]| bytes.windows(end.len()).any(|part| part == end);
    if ends(b"\r\n\r\n") || ends(b"\n\n") {
        Head::Whole
    } else if bytes.len() > MOST {
        Head::TooLong
    } else {
        Head::Part
    }
}

/// The answer to a request whose head these bytes begin with. `page`: its type and its text.
pub(super) fn answer(bytes: &[u8], page: impl FnOnce() -> (&'static str, String)) -> Vec<u8> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let plain = |text: &str| (PLAIN, text.to_owned());
    if head(bytes) == Head::TooLong {
        return response("431 Request Header Fields Too Large", plain("too long\n"), true);
    }
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return response("400 Bad Request", plain("this is no request\n"), true);
    };
    if !version.starts_with(b"HTTP/1.") || method.is_empty() || target.is_empty() {
        return response("400 Bad Request", plain("this is no request of HTTP/1\n"), true);
    }
    let has_body = match method {
        b"GET" => true,
        b"HEAD" => false,
        _ => return response("405 Method Not Allowed", plain("GET and HEAD only\n"), true),
    };
    match target.split(|byte| *byte == b'?').next().unwrap_or_default() {
        b"/metrics" => response("200 OK", page(), has_body),
        b"/" => response("200 OK", plain("twelvefold: the numbers are at /metrics\n"), has_body),
        _ => response("404 Not Found", plain("there is /metrics\n"), has_body),
    }
}

fn response(status: &str, (kind, text): (&str, String), has_body: bool) -> Vec<u8> {
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        text.len()
    );
    if has_body {
        response.push_str(&text);
    }
    response.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::{Head, MOST, answer, head};

    fn asked(request: &[u8]) -> String {
        String::from_utf8(answer(request, || ("kind", "page\n".to_owned()))).unwrap()
    }

    fn status(request: &[u8]) -> String {
        asked(request).split(' ').nth(1).unwrap().to_owned()
    }

    #[test]
    fn the_page_and_the_line_that_names_it_are_found_and_nothing_else() {
        let page = asked(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(
            page,
            "HTTP/1.1 200 OK\r\nContent-Type: kind\r\nContent-Length: 5\r\nConnection: close\r\n\r\npage\n"
        );
        // The head of the same.
        assert_eq!(asked(b"HEAD /metrics HTTP/1.1\r\n\r\n"), page.trim_end_matches("page\n"));
        assert_eq!(asked(b"GET /metrics?a=b HTTP/1.0\n\n"), page);
        assert!(asked(b"GET / HTTP/1.1\r\n\r\n").contains("/metrics"));
        for other in ["/metric", "/metrics/", "//metrics", "http://x/metrics", "*", "/%6detrics"] {
            let request = format!("GET {other} HTTP/1.1\r\n\r\n");
            assert_eq!(status(request.as_bytes()), "404", "{other}");
        }
    }

    #[test]
    fn another_method_is_not_allowed_and_what_is_no_request_is_bad() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "get", "G"] {
            let answer = asked(format!("{method} /metrics HTTP/1.1\r\n\r\n").as_bytes());
            assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
            assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
        }
        for bad in ["", "GET", "GET /metrics", "GET  /metrics HTTP/1.1", "GET /metrics HTTP/2", " "]
        {
            assert_eq!(status(format!("{bad}\r\n\r\n").as_bytes()), "400", "{bad}");
        }
        assert_eq!(status(b"\xff\xfe\0 / HTTP/1.1\n\n"), "405");
        assert_eq!(status(b"GET /\xff\xfe HTTP/1.1\n\n"), "404");
        assert_eq!(status(b"\x16\x03\x01\x02\n\n"), "400");
    }

    #[test]
    fn nothing_of_a_request_is_repeated() {
        for line in
            ["GET /<script>", "<script> /", "GET / <script>", "GET /metrics?<script> HTTP/1.1"]
        {
            let request = format!("{line} HTTP/1.1\r\nHost: <script>\r\n\r\n");
            assert!(!asked(request.as_bytes()).contains("script"), "{line}");
        }
    }

    #[test]
    fn a_head_ends_with_an_empty_line_and_is_bounded() {
        let whole = b"GET / HTTP/1.1\r\nA: b\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(head(&whole[..end]), Head::Part, "{end} bytes");
        }
        assert_eq!(head(whole), Head::Whole);
        assert_eq!(head(&[whole, &b"body"[..]].concat()), Head::Whole);
        assert_eq!(head(&vec![b'a'; MOST]), Head::Part);
        assert_eq!(head(&vec![b'a'; MOST + 1]), Head::TooLong);
        assert_eq!(status(&vec![b'a'; MOST + 1]), "431");
    }
}
