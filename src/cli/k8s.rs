//! `--print k8s`: a Deployment and a Service that run the relay with the options given beside it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use tproxy::Config;
use tproxy::net::Address;

use super::address::Listen;
use super::routes::Draft;
use super::unit::{seconds_to_stop, without_print};
use crate::control::Role;

/// Where the probes ask, if the options do not say.
const METRICS: u16 = 9001;

/// How long a Pod accepts clients after it was asked to stop, if the options do not say: it takes so long until all nodes know.
const DELAY: Duration = Duration::from_secs(5);

/// As long as it takes: a day.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// The two objects.
///
/// # Errors
/// In words, when the options are none that a Pod can have.
pub(super) fn k8s(
    words: &[OsString],
    routes: &[Draft],
    config: &Config,
    http: &[(Role, Address)],
) -> Result<String, String> {
    let mut args = Vec::new();
    for word in without_print(words).into_iter().skip(1) {
        args.push(word.to_str().ok_or("a manifest is UTF-8, and a word of the command line is not")?.to_owned());
    }
    let writes = |word: &&String| ["--pid-file", "--port-file"].iter().any(|file| word.starts_with(file));
    if let Some(word) = args.iter().find(writes) {
        return Err(format!("{word}: the file system of the Pod is read-only; leave it out"));
    }
    let of = |role: Role| http.iter().find(|(of, _)| *of == role).map(|(_, address)| address);
    let port = |address: &Address| {
        let why = "the file system of the Pod is read-only; write an address, or leave it out";
        address.inet().map(|address| address.port()).ok_or_else(|| format!("--admin {address}: {why}"))
    };
    let admin = of(Role::Admin).map(port).transpose()?;
    let metrics = match of(Role::Metrics).map(Address::inet) {
        None => {
            args.extend(["--metrics".to_owned(), format!(":{METRICS}")]);
            METRICS
        }
        Some(Some(address)) if !address.ip().to_canonical().is_loopback() && address.port() != 0 => address.port(),
        Some(_) => {
            return Err(format!("the probes ask at --metrics, from outside of the Pod; write --metrics :{METRICS}"));
        }
    };
    let mut delay = config.drain_delay;
    let is_given = args.iter().any(|word| word == "--drain-delay" || word.starts_with("--drain-delay="));
    if !is_given {
        delay = DELAY;
        args.extend(["--drain-delay".to_owned(), format!("{}s", DELAY.as_secs())]);
    }
    let grace = seconds_to_stop(delay, config.drain_timeout.unwrap_or(FOR_EVER));
    let (mut container, mut service, mut ports) = (String::new(), String::new(), BTreeSet::from([metrics]));
    if admin.is_some_and(|port| port != 0 && !ports.insert(port)) {
        return Err(format!("--admin has the port of --metrics, {metrics}; choose another"));
    }
    for draft in routes {
        let written = &draft.written;
        let port = match &draft.from {
            Listen::Address(address) if address.ip().to_canonical().is_loopback() => {
                return Err(format!("{written}: nobody outside of the Pod reaches it; write :{}", address.port()));
            }
            Listen::Address(address) if address.port() != 0 => address.port(),
            Listen::Address(_) | Listen::Name(..) | Listen::Unix(_) | Listen::Inherited(_) => {
                return Err(format!("{written}: a Service leads to a port; write one, such as :6101"));
            }
        };
        if !ports.insert(port) {
            return Err(format!("{written}: port {port} is taken, by a route before or by --metrics; choose another"));
        }
        let _ = writeln!(container, "            - {{ name: p{port}, containerPort: {port} }}");
        let _ = writeln!(service, "    - {{ name: p{port}, port: {port}, targetPort: p{port} }}");
    }
    // What JSON calls a string, YAML does too.
    let args: String = args.into_iter().map(|word| format!("            - {}\n", Value::from(word))).collect();
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!(
        "\
# The image is yours to build: the binary and nothing else, with the ENTRYPOINT [\"/tproxy\"]. As PID 1 it needs no init: it
# handles its signals and starts no process. The grace period is the delay, the drain and 5 s more.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: tproxy
  labels: {{ app: tproxy }}
spec:
  replicas: 2
  selector:
    matchLabels: {{ app: tproxy }}
  template:
    metadata:
      labels: {{ app: tproxy }}
      annotations: {{ prometheus.io/scrape: \"true\", prometheus.io/port: \"{metrics}\" }}
    spec:
      terminationGracePeriodSeconds: {grace}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        # Ports below 1024, without a capability.
        sysctls: [{{ name: net.ipv4.ip_unprivileged_port_start, value: \"0\" }}]
      containers:
        - name: tproxy
          image: tproxy:{version}
          args:
{args}          ports:
{container}            - {{ name: metrics, containerPort: {metrics} }}
          livenessProbe:
            httpGet: {{ path: /healthz, port: metrics }}
            timeoutSeconds: 2
          readinessProbe:
            httpGet: {{ path: /readyz, port: metrics }}
            periodSeconds: 2
          resources:
            # At worst, sessions need the buffers that the log names at start: give a limit together with --max-sessions.
            requests: {{ cpu: 100m, memory: 64Mi }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{ drop: [ALL] }}
---
apiVersion: v1
kind: Service
metadata:
  name: tproxy
spec:
  selector: {{ app: tproxy }}
  ports:
{service}"
    ))
}
