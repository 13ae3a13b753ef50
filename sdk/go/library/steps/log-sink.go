// Package export_tidegate_gateway_log_sink is what the generated exports call.
package export_tidegate_gateway_log_sink

import (
	"tidegate"

	types "go.bytecodealliance.org/pkg/wit/types"
)

// Write asks the plugin.
func Write(records [][]types.Option[string]) types.Result[types.Unit, string] {
	plugin, is := tidegate.Current.(tidegate.LogSink)
	if !is {
		return types.Err[types.Unit, string]("the plugin has no method Write([]tidegate.Record) error")
	}
	handed := make([]tidegate.Record, len(records))
	for i, record := range records {
		handed[i] = tidegate.RecordOf(record)
	}
	if err := plugin.Write(handed); err != nil {
		return types.Err[types.Unit, string](err.Error())
	}
	return types.Ok[types.Unit, string](types.Unit{})
}
