// Package plugin writes down the requests that failed.
package plugin

import (
	"fmt"
	"strconv"

	"tidegate"
)

func init() { tidegate.Export(configure) }

type failures struct {
	Least int `json:"least"`
}

func configure(configuration tidegate.Configuration) (tidegate.Plugin, error) {
	plugin := failures{Least: 400}
	err := configuration.Into(&plugin)
	return plugin, err
}

// Reads names what the host hands over of each request.
func (plugin failures) Reads() []tidegate.Reading {
	return []tidegate.Reading{tidegate.ReadContext("status"), tidegate.ReadContext("routeKey")}
}

// Write writes a line for each.
func (plugin failures) Write(records []tidegate.Record) error {
	lines := []string{}
	for _, record := range records {
		status, _ := record.Value(0)
		if number, err := strconv.Atoi(status); err != nil || number < plugin.Least {
			continue
		}
		route, there := record.Value(1)
		if !there {
			route = "-"
		}
		lines = append(lines, fmt.Sprintf("%s %s", status, route))
	}
	tidegate.WriteLines(lines)
	return nil
}
