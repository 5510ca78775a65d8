package pushing

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// AllowList says which messages may be pushed. The zero value allows nothing.
type AllowList struct {
	entries [][3]string // instance, group, topic
}

// ParseAllowList reads comma-separated entries "instance/group/topic". Each
// part is compared as a whole and case-sensitively; "*" stands for any run of
// characters but "/". The error names every entry that is wrong.
func ParseAllowList(text string) (AllowList, error) {
	var list AllowList
	var problems []string
	for i, entry := range strings.Split(text, ",") {
		parts := strings.Split(strings.TrimSpace(entry), "/")
		if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
			problems = append(problems, fmt.Sprintf("entry %d: must be instance/group/topic, three parts that are not empty", i+1))
			continue
		}
		if strings.Trim(strings.Join(parts, ""), patternChars) != "" {
			problems = append(problems, fmt.Sprintf("entry %d: only letters, digits, _, - and * may stand between the slashes", i+1))
			continue
		}
		list.entries = append(list.entries, [3]string(parts))
	}
	if problems != nil {
		return AllowList{}, fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	return list, nil
}

const patternChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-*"

// Instances lists the instance patterns of the entries, in their order.
func (l AllowList) Instances() []string {
	var all []string
	for _, e := range l.entries {
		all = append(all, e[0])
	}
	return all
}

// Allows reports whether some entry matches the message's instance, group and
// topic.
func (l AllowList) Allows(m Message) bool {
	return slices.ContainsFunc(l.entries, func(e [3]string) bool {
		return match(e[0], m.InstanceID) && match(e[1], m.GroupID) && match(e[2], m.Topic)
	})
}

// AllowsGroup reports whether some entry matches the instance and the group, and
// the topic unless that is empty.
func (l AllowList) AllowsGroup(instanceID, groupID, topic string) bool {
	return slices.ContainsFunc(l.entries, func(e [3]string) bool {
		return match(e[0], instanceID) && match(e[1], groupID) && (topic == "" || match(e[2], topic))
	})
}

// match reports whether all of text fits pattern, in which a star is all that
// path.Match takes for a sign: ParseAllowList lets no other one in.
func match(pattern, text string) bool {
	fits, _ := path.Match(pattern, text)
	return fits
}
