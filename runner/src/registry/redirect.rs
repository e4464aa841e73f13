//! Where an answer may send a request on to.

use std::net::IpAddr;

use reqwest::{Url, header::HeaderValue};

use super::{address::Reach, failure::Failure, shown};

/// Redirects of one request: blobs lie one or two hosts away.
pub(super) const MOST: usize = 5;

/// Whether two URLs are of one scheme, host and port.
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    (a.scheme(), a.host(), a.port_or_known_default())
        == (b.scheme(), b.host(), b.port_or_known_default())
}

/// A URL's host and port, for messages.
pub(super) fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => shown(url.as_str()),
    }
}

/// The URL that `location`, in an answer of `from`, names, if it may be followed.
///
/// `base` is the registry, and `reach` how near that is. Nothing leads from encryption to none,
/// nor nearer to this host; names are judged again when they are resolved.
pub(super) fn target(
    (base, proxies): (&Url, &[String]),
    reach: Reach,
    from: &Url,
    location: Option<&HeaderValue>,
) -> Result<Url, Failure> {
    let refused = |why: &str| Failure::Refused(format!("`{}` {why}", host(from)));
    let location = location.and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| refused("redirects, and does not say where to"))?;
    let mut to = from
        .join(location)
        .map_err(|_| refused(&format!("redirects to `{}`, which is no URL", shown(location))))?;
    allowed((base, proxies), reach, &to)
        .map_err(|why| refused(&format!("redirects to `{}`, {why}", host(&to))))?;
    // A name and password in a URL would be sent along.
    if !to.username().is_empty() || to.password().is_some() {
        return Err(refused("redirects to a URL with a password in it"));
    }
    to.set_fragment(None);
    Ok(to)
}

/// Whether a registry may make us ask `to`; the error continues a sentence.
///
/// The names of `proxies` resolve wherever these are, so they are no place to be sent to: what else
/// listens on such a host would be in reach.
pub(super) fn allowed(
    (base, proxies): (&Url, &[String]),
    reach: Reach,
    to: &Url,
) -> Result<(), String> {
    match to.scheme() {
        "https" => {}
        "http" if base.scheme() == "http" => {}
        "http" => return Err("which is not encrypted".to_owned()),
        _ => return Err("which is neither http nor https".to_owned()),
    }
    if same_origin(base, to) {
        return Ok(());
    }
    let named = |proxy: &String| to.host_str().is_some_and(|it| it.eq_ignore_ascii_case(proxy));
    if proxies.iter().any(named) {
        return Err("the host of our proxy, where no registry may send us".to_owned());
    }
    let address = match to.host() {
        Some(url_host) => url_host.to_string().trim_matches(['[', ']']).parse::<IpAddr>().ok(),
        None => return Err("which names no host".to_owned()),
    };
    match address {
        Some(address) if !reach.may_lead_to(Reach::of(address)) => {
            Err("where no registry may send us".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: &str, reach: Reach, location: &str, expect: Result<&str, &str>) {
        let base: Url = base.parse().unwrap();
        let value = HeaderValue::from_str(location).unwrap();
        let proxies = ["proxy.example".to_owned()];
        let found = target((&base, &proxies), reach, &base, Some(&value));
        match (found, expect) {
            (Ok(url), Ok(expect)) => assert_eq!(url.as_str(), expect, "{location}"),
            (Err(failure), Err(part)) => {
                assert!(failure.to_string().contains(part), "{location}: {failure}");
                assert!(!failure.to_string().contains("hunter22"), "{failure}");
            }
            (found, expect) => panic!("{location}: {found:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn redirects_that_are_followed_and_that_are_not() {
        use Reach::{Loopback, Private, Public};
        let base = "https://r.example/v2/a/blobs/x";
        check(base, Public, "/other", Ok("https://r.example/other"));
        check(base, Public, "https://cdn.example/b?sig=1#x", Ok("https://cdn.example/b?sig=1"));
        check(base, Public, "http://cdn.example/b", Err("not encrypted"));
        check(base, Public, "http://r.example/b", Err("not encrypted"));
        check(base, Public, "file:///etc/passwd", Err("neither http nor https"));
        check(base, Public, "https://user:hunter22@cdn.example/", Err("password in it"));
        check(base, Public, "https://Proxy.example:8443/b", Err("the host of our proxy"));
        let proxy = "http://proxy.example:5000/v2/";
        check(proxy, Public, "http://proxy.example:5000/b", Ok("http://proxy.example:5000/b"));
        check(proxy, Public, "http://proxy.example:5001/b", Err("the host of our proxy"));
        for near in [
            "127.0.0.1",
            "[::1]",
            "169.254.169.254",
            "10.0.0.1",
            "[::ffff:10.0.0.1]",
            "0x7f.1",
            "2130706433",
        ] {
            check(base, Public, &format!("https://{near}/"), Err("no registry may send us"));
        }
        let private = "https://10.0.0.1/v2/";
        check(private, Private, "https://10.0.0.2/b", Ok("https://10.0.0.2/b"));
        check(private, Private, "https://127.0.0.1/b", Err("no registry may send us"));
        let own = "http://127.0.0.1:5000/v2/";
        check(own, Loopback, "http://127.0.0.1:5001/b", Ok("http://127.0.0.1:5001/b"));
        check(own, Loopback, "http://10.0.0.1/b", Err("no registry may send us"));
        check(own, Loopback, "http://169.254.169.254/latest", Err("no registry may send us"));
    }
}
