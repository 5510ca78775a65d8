// Package serve holds the runtimes of a function binary. The environment picks
// one, and each turns its platform's call into one call of a [Handler]:
//
//	FC_RUNTIME_API set          Function Compute's built-in go1 runtime
//	AWS_LAMBDA_RUNTIME_API set  AWS Lambda
//	neither                     an HTTP server: Function Compute's custom runtime, and
//	                            CloudEvents over HTTP for everybody else
//
// Over HTTP there are three kinds of callers. The platform itself is known by its
// x-fc-control-path header, and only where the environment says that this is
// Function Compute; it is trusted and brings credentials. Everybody else is an
// outsider, who needs the token and whose x-fc-* headers give nothing. A monitor
// is one who brings the webhook token instead, as it can set a URL and no headers:
// its calls are marked, for alerts only. An HTTP
// trigger's request is an outsider's although the platform relays it: its
// control path is /http-invoke (source: FC "Custom runtime: Event handlers",
// document 191342).
package serve
