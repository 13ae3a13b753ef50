// Package plugin sends requests to one of two upstreams, or answers all of them while both are closed.
package plugin

import "tidegate"

func init() { tidegate.Export(configure) }

type choice struct {
	Upstream  string `json:"upstream"`
	Preview   string `json:"preview"`
	TimeoutMs uint32 `json:"timeout-ms"`
	Closed    string `json:"closed"`
}

func configure(configuration tidegate.Configuration) (tidegate.Plugin, error) {
	var plugin choice
	err := configuration.Into(&plugin)
	return plugin, err
}

// Reads has the host hand these over with each call, which costs half of what asking for them does.
func (plugin choice) Reads() []tidegate.Reading {
	return []tidegate.Reading{tidegate.ReadPath(), tidegate.ReadQueryString(), tidegate.ReadHeader("x-preview")}
}

// Integrate decides on the request in hand.
func (plugin choice) Integrate() (tidegate.Plan, error) {
	if plugin.Closed != "" {
		headers := []tidegate.Field{{Name: "content-type", Value: "text/plain"}}
		answer := tidegate.Response{Status: 503, Headers: headers, Body: []byte(plugin.Closed)}
		return tidegate.Plan{Respond: &answer}, nil
	}
	plan := tidegate.Plan{TimeoutMs: plugin.TimeoutMs}
	authority := plugin.Upstream
	if _, previewing := tidegate.Given(2); previewing && plugin.Preview != "" {
		authority = plugin.Preview
		plan.Edits = []tidegate.Edit{tidegate.RemoveHeader("x-preview")}
	}
	path, _ := tidegate.Given(0)
	plan.Forward = "http://" + authority + path
	if query, there := tidegate.Given(1); there {
		plan.Forward += "?" + query
	}
	return plan, nil
}
