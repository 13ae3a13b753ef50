// Package export_tidegate_gateway_validator is what the generated exports call.
package export_tidegate_gateway_validator

import (
	"tidegate"
	host "tidegate/bindings/tidegate_gateway_validator"

	types "go.bytecodealliance.org/pkg/wit/types"
)

// Validate asks the plugin.
func Validate(given []types.Option[string]) types.Result[host.Validity, string] {
	tidegate.Handed = tidegate.RecordOf(given)
	plugin, is := tidegate.Current.(tidegate.Validator)
	if !is {
		return types.Err[host.Validity, string]("the plugin has no method Validate() (tidegate.Validity, error)")
	}
	validity, err := plugin.Validate()
	if err != nil {
		return types.Err[host.Validity, string](err.Error())
	}
	made := host.MakeValidityValid()
	switch validity.Kind {
	case tidegate.ValidityInvalidParameters:
		made = host.MakeValidityInvalidParameters(validity.Message)
	case tidegate.ValidityInvalidBody:
		made = host.MakeValidityInvalidBody(validity.Message)
	case tidegate.ValidityUnsupportedMediaType:
		made = host.MakeValidityUnsupportedMediaType()
	}
	return types.Ok[host.Validity, string](made)
}
