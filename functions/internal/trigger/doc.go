// Package trigger knows every envelope a platform delivers: it turns the bytes
// into deliveries for the domain, and the domain's results into the answer that
// platform understands, for functions/repush and for functions/plan, which take
// different events. Which envelope it is shows in the bytes, not in the
// configuration: one function may have several triggers, and their documentation
// and SDK types contradict each other (source: fc-eventbridge.md, traps 1, 2). A
// new trigger is one file and one line in envelopes.
//
// Which request it is: a CloudEvent has its own source and id. Data alone takes
// those of the innermost envelope that has any: the message id, topic, partition
// and offset, the timer's name and time, else the CloudEvent around it. They are
// the same in every redelivery. An element of an array in one message adds "#"
// and its index. Data by itself, and in an HTTP trigger's request, is known by
// its bytes: source [SourceBare], id the first 32 hex digits of the SHA-256 of
// its JSON without insignificant white space. Of several alerts in one body, each
// has the index of its own.
//
// Alerts are what monitors send: CloudMonitor, Alertmanager and ARMS, CloudWatch; a
// new one is one file and one name in monitors. All that an alert says is which
// metric of which group is out of bounds: it becomes a plan that selects, or says
// why there is nothing to do.
//
// Who is believed: who may write to the trigger's topic may ask for pushes and
// sweeps and send alerts; the allow-list bounds what for. HTTP requests that arrive
// as events come from outsiders and need the token inside them; the token for
// alerts admits alerts and nothing else, however they are wrapped. Operations,
// priority "human" and a plan's "again" are for a single event by direct invoke or
// with the token. What a platform hands
// over as somebody wrote it (an MNS topic in STREAM format, RawData, a constant
// input) cannot be told from a direct invoke: who may write there is as trusted.
package trigger
