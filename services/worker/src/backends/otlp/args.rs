//! Flags of `zibrato-otlp`.

use std::sync::Arc;
use std::time::Duration;

use super::{Otlp, OtlpConfig};
use crate::backend::Backend;
use crate::cli::{BackendArgs, Context, UrlArgs, UrlArgsError, UrlError, parse_url};

/// Where a collector listens by itself.
pub const URL_DEFAULT: &str = "http://127.0.0.1:4318/v1/metrics";
const PATH_DEFAULT: &str = "/v1/metrics";
const SERVICE_NAME_DEFAULT: &str = "zibrato";
const SERVICE_NAME_KEY: &str = "service.name";
/// Most attributes of `--resource`.
const RESOURCE_MAX: usize = 64;
const RESOURCE_KEY_BYTES_MAX: usize = 255;
const RESOURCE_VALUE_BYTES_MAX: usize = 1_024;
const AGE_S_DEFAULT: u64 = 86_400;
const AGE_S_MIN: u64 = 60;
const AGE_S_MAX: u64 = 315_360_000;

/// A receiver of OTLP over HTTP.
#[derive(Clone, Debug, clap::Args)]
pub struct OtlpArgs {
    /// URL of the receiver, http or https, without credentials; without a path /v1/metrics is added.
    #[arg(long, hide_env_values = true, default_value = URL_DEFAULT)]
    pub url: String,

    /// Who we are there.
    #[command(flatten)]
    pub http: UrlArgs,

    /// Resource attribute `service.name`: 1 to 1024 bytes without control characters.
    #[arg(long, value_name = "NAME", default_value = SERVICE_NAME_DEFAULT, value_parser = parse_resource_value)]
    pub service_name: String,

    /// Further resource attribute, such as deployment.environment.name=prod; may be given up to 64 times, each key once.
    /// Keys have 1 to 255 bytes, values 1 to 1024, none a control character. Workers that send the same series to one
    /// receiver need different ones, such as service.instance.id=one.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_resource)]
    pub resource: Vec<(String, String)>,

    /// Do not compress requests.
    #[arg(long)]
    pub no_gzip: bool,

    /// Oldest age of a batch that is still sent, in seconds, 60 to 315360000. Older batches are dropped and counted;
    /// the next one carries the same totals. OTLP itself has no limit, many stores have.
    #[arg(long, value_name = "SECONDS", default_value_t = AGE_S_DEFAULT,
          value_parser = zibrato_service::whole_number::<u64>(AGE_S_MIN, AGE_S_MAX))]
    pub max_age: u64,
}

impl OtlpArgs {
    /// The settings that these flags ask for.
    ///
    /// # Errors
    ///
    /// [`OtlpArgsError`] names the flag, what was given and what is accepted. It never shows a token.
    pub fn resolve(&self, context: &Context) -> Result<OtlpConfig, OtlpArgsError> {
        let text = Some(self.url.as_str()).filter(|url| !url.trim().is_empty()).unwrap_or(URL_DEFAULT);
        let mut url = parse_url(text, URL_DEFAULT)?;
        if url.path() == "/" {
            url.set_path(PATH_DEFAULT);
        }
        Ok(OtlpConfig {
            client: self.http.client(url, "Bearer", context)?,
            resource: self.resource_attributes()?,
            gzip: !self.no_gzip,
            age_max: Duration::from_secs(self.max_age),
        })
    }

    fn resource_attributes(&self) -> Result<Vec<(String, String)>, OtlpArgsError> {
        if self.resource.len() > RESOURCE_MAX {
            return Err(OtlpArgsError::ResourceMany { count: self.resource.len() });
        }
        let mut attributes = vec![(SERVICE_NAME_KEY.to_owned(), self.service_name.clone())];
        for (key, value) in &self.resource {
            if key == SERVICE_NAME_KEY {
                return Err(OtlpArgsError::ResourceName);
            }
            if attributes.iter().any(|(known, _)| known == key) {
                return Err(OtlpArgsError::ResourceTwice { key: key.clone() });
            }
            attributes.push((key.clone(), value.clone()));
        }
        Ok(attributes)
    }
}

impl BackendArgs for OtlpArgs {
    const NAME: &'static str = "otlp";
    const ABOUT: &'static str =
        "Takes metrics from brokers and posts them to an OpenTelemetry collector or another receiver of OTLP";
    type Error = OtlpArgsError;

    fn build(&self, context: &Context) -> Result<Arc<dyn Backend>, OtlpArgsError> {
        Ok(Arc::new(Otlp::new(self.resolve(context)?)))
    }
}

/// Why flags are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpArgsError {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Credentials or headers cannot be used.
    #[error(transparent)]
    Http(#[from] UrlArgsError),
    /// More attributes than accepted.
    #[error("--resource is given {count} times; accepted are at most {RESOURCE_MAX}")]
    ResourceMany {
        /// How many.
        count: usize,
    },
    /// The name of the service has its own flag.
    #[error("--resource service.name is not accepted; give --service-name NAME")]
    ResourceName,
    /// An attribute can have one value.
    #[error("--resource {key:?} is given more than once; give each key once")]
    ResourceTwice {
        /// The key.
        key: String,
    },
}

fn parse_resource(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("not an attribute; give KEY=VALUE, such as deployment.environment.name=prod")?;
    let key = key.trim();
    if key.is_empty() || key.len() > RESOURCE_KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(format!(
            "key {key:?} is not accepted; give 1 to {RESOURCE_KEY_BYTES_MAX} bytes without control characters"
        ));
    }
    Ok((key.to_owned(), parse_resource_value(value)?))
}

fn parse_resource_value(text: &str) -> Result<String, String> {
    let value = text.trim();
    if value.is_empty() || value.len() > RESOURCE_VALUE_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(format!(
            "value {value:?} is not accepted; give 1 to {RESOURCE_VALUE_BYTES_MAX} bytes without control characters"
        ));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Program;
    use crate::numbers::Chosen;

    fn parse(args: &[&str]) -> Result<OtlpArgs, clap::Error> {
        let all = ["zibrato-otlp", "--spool", "/tmp/none"].iter().chain(args);
        Program::<OtlpArgs>::try_parse(all).map(|program| program.backend)
    }

    fn resolve(args: &[&str]) -> Result<OtlpConfig, OtlpArgsError> {
        let context =
            Context { program: "zibrato-otlp".to_owned(), token_variable: None, chosen: Chosen::default() };
        parse(args).unwrap().resolve(&context)
    }

    #[test]
    fn the_path_is_added_to_a_url_that_has_none() {
        for (given, expected) in [
            ("", "http://127.0.0.1:4318/v1/metrics"),
            ("http://h:1", "http://h:1/v1/metrics"),
            ("https://h/", "https://h/v1/metrics"),
            ("https://h/otlp/v1/metrics", "https://h/otlp/v1/metrics"),
            ("https://h/?a=b", "https://h/v1/metrics?a=b"),
        ] {
            assert_eq!(resolve(&["--url", given]).unwrap().client.url().as_str(), expected);
        }
        assert_eq!(resolve(&[]).unwrap().client.url().as_str(), URL_DEFAULT);
        for url in ["ftp://x/", "127.0.0.1:4318", "http://", "http://x/#y"] {
            let error = resolve(&["--url", url]).unwrap_err().to_string();
            assert!(error.contains("--url") && error.contains(URL_DEFAULT), "{error}");
        }
    }

    #[test]
    fn defaults_are_those_documented_and_flags_change_them() {
        let plain = resolve(&[]).unwrap();
        let name = |value: &str| ("service.name".to_owned(), value.to_owned());
        assert_eq!(
            (plain.resource, plain.gzip, plain.age_max.as_secs()),
            (vec![name("zibrato")], true, 86_400)
        );
        let flags = ["--service-name", "shop", "--resource", " host = a=b ", "--no-gzip", "--max-age", "60"];
        let set = resolve(&flags).unwrap();
        assert_eq!(set.resource, [name("shop"), ("host".to_owned(), "a=b".to_owned())]);
        assert_eq!((set.gzip, set.age_max.as_secs()), (false, 60));
    }

    #[test]
    fn attributes_that_cannot_work_are_refused() {
        let long_key = format!("{}=v", "k".repeat(256));
        let long_value = format!("k={}", "v".repeat(1_025));
        for bad in ["k", "=v", "k=", "k=a\nb", "k\u{1}=v", &long_key, &long_value] {
            assert!(parse(&["--resource", bad]).is_err(), "{bad}");
        }
        assert!(parse(&["--resource", &long_key[1..], "--resource", &long_value[..1_026]]).is_ok());
        for bad in ["", " ", "a\tb", &long_value] {
            assert!(parse(&["--service-name", bad]).is_err(), "{bad}");
        }
        let twice = resolve(&["--resource", "k=v", "--resource", "k=w"]).unwrap_err();
        assert!(twice.to_string().contains("\"k\""), "{twice}");
        let name = resolve(&["--resource", "service.name=x"]).unwrap_err();
        assert!(name.to_string().contains("--service-name"), "{name}");
        let many: Vec<_> = (0..65).flat_map(|at| ["--resource".to_owned(), format!("k{at}=v")]).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(resolve(&many), Err(OtlpArgsError::ResourceMany { count: 65 })));
        assert!(resolve(&many[2..]).is_ok());
    }

    #[test]
    fn a_token_goes_to_another_machine_only_encrypted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "canary-81").unwrap();
        let with = |url| resolve(&["--token-file", file.to_str().unwrap(), "--url", url]);
        assert!(with("https://192.0.2.1/").is_ok() && with("http://127.0.0.1:4318").is_ok());
        let error = with("http://192.0.2.1/").unwrap_err();
        assert!(error.to_string().contains("--insecure-http"), "{error}");
        assert!(!format!("{error:?} {:?}", with("https://192.0.2.1/")).contains("canary"));
    }
}
