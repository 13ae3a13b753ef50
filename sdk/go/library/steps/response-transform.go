// Package export_tidegate_gateway_response_transform is what the generated exports call.
package export_tidegate_gateway_response_transform

import (
	"tidegate"
	host "tidegate/bindings/tidegate_gateway_types"
	"tidegate/edits"

	types "go.bytecodealliance.org/pkg/wit/types"
)

// TransformResponse asks the plugin.
func TransformResponse(given []types.Option[string]) types.Result[[]host.Edit, string] {
	tidegate.Handed = tidegate.RecordOf(given)
	plugin, is := tidegate.Current.(tidegate.ResponseTransform)
	if !is {
		return types.Err[[]host.Edit, string]("the plugin has no method TransformResponse() ([]tidegate.Edit, error)")
	}
	changes, err := plugin.TransformResponse()
	if err != nil {
		return types.Err[[]host.Edit, string](err.Error())
	}
	return types.Ok[[]host.Edit, string](edits.Of(changes))
}
