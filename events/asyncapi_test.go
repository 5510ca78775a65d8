package events

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type reference struct {
	Ref string `yaml:"$ref"`
}

type asyncAPI struct {
	AsyncAPI string `yaml:"asyncapi"`
	Channels map[string]struct {
		Messages map[string]reference `yaml:"messages"`
	} `yaml:"channels"`
	Operations map[string]struct {
		Action   string      `yaml:"action"`
		Channel  reference   `yaml:"channel"`
		Messages []reference `yaml:"messages"`
	} `yaml:"operations"`
	Components struct {
		Messages map[string]struct {
			Name    string `yaml:"name"`
			Payload struct {
				Schema reference `yaml:"schema"`
			} `yaml:"payload"`
		} `yaml:"messages"`
	} `yaml:"components"`
}

func TestAsyncAPI(t *testing.T) {
	t.Parallel()
	var doc asyncAPI
	if err := yaml.Unmarshal(file(t, "asyncapi.yaml"), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.AsyncAPI, "3.") {
		t.Errorf("asyncapi: %q, want 3.x", doc.AsyncAPI)
	}
	var types []string
	for key, m := range doc.Components.Messages {
		if m.Name == "alert" { // not ours: it has samples, and no schema
			continue
		}
		types = append(types, m.Name)
		if want := "schemas/" + contracts()[m.Name].schema + ".schema.json"; m.Payload.Schema.Ref != want {
			t.Errorf("message %s: schema %q, want %q", key, m.Payload.Schema.Ref, want)
		}
	}
	if want := slices.Sorted(maps.Keys(contracts())); !slices.Equal(slices.Sorted(slices.Values(types)), want) {
		t.Errorf("messages are for %q, event types are %q", types, want)
	}

	carried := make(map[string]bool) // references to the messages of channels
	used := make(map[string]bool)    // references to the messages of components
	for channel, c := range doc.Channels {
		for key, m := range c.Messages {
			carried["#/channels/"+channel+"/messages/"+key] = true
			used[m.Ref] = true
		}
	}
	for key := range doc.Components.Messages {
		if ref := "#/components/messages/" + key; !used[ref] {
			t.Errorf("message %s goes through no channel", key)
		}
		delete(used, "#/components/messages/"+key)
	}
	for ref := range used {
		t.Errorf("a channel carries %q, which does not exist", ref)
	}

	ways := make(map[string]bool) // "send #/channels/x/messages/y"
	for name, o := range doc.Operations {
		if o.Action != "send" && o.Action != "receive" || len(o.Messages) == 0 {
			t.Errorf("operation %s: action %q with %d messages", name, o.Action, len(o.Messages))
		}
		for _, m := range o.Messages {
			if !carried[m.Ref] || !strings.HasPrefix(m.Ref, o.Channel.Ref+"/messages/") {
				t.Errorf("operation %s: %q is no message of channel %q", name, m.Ref, o.Channel.Ref)
			}
			ways[o.Action+" "+m.Ref] = true
		}
	}
	for ref := range carried {
		if !ways["send "+ref] {
			t.Errorf("nobody sends %s", ref)
		}
		if isResult := strings.HasPrefix(ref, "#/channels/results/"); ways["receive "+ref] == isResult {
			t.Errorf("%s: received by us %v, a result %v", ref, !isResult, isResult)
		}
	}
	// An alert is no type of ours, and a sweep goes to both functions.
	if len(carried) != len(contracts())+2 {
		t.Errorf("channels carry %d messages, want one for each of %d types, an alert and a second sweep", len(carried), len(contracts()))
	}
}
